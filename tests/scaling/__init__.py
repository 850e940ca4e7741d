"""How far the bundle goes: our measurements, with AWS's quotas and prices. See docs/scaling.md."""
