"""An AWS account on a laptop: ministack, extended with what AWS does and it does not."""
