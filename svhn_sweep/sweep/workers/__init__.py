"""Where trials are trained: processes of this machine, or actors of a Ray cluster."""
