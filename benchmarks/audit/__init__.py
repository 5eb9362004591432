"""Every method against every probe, on the pocket model."""
