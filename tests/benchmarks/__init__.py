"""Side-by-side measurements: `make bench`. Each section is a module that has `measure`."""
