"""Experiments as TOML files; see `eqnp.config`."""
