"""From TOML to a validated experiment, or every problem with its position."""
