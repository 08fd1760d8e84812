"""The config: schema, rules, overrides, error messages."""
