"""Where rows and probes come from: files of every usual kind, and the Hugging Face Hub."""
