"""The command line `candor`: its commands, their help, configuration files, shell completion."""
