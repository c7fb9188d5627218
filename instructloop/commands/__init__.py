"""The subcommands of `instructloop`, one module per group; each imports its part when it runs."""
