"""Independent routes to the same gradient, against which Equilibrium Propagation is checked."""
