"""Who is alive: what each device says, how often, and what its silence means."""
