"""What every job shares: input and output files, journal, manifest, exit statuses."""
