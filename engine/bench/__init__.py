"""What `stepbus bench` trains: the same work under a loop by hand and under a run."""
