"""CRIU, which writes processes to images and restores them: its messages, its images, and what its logs mean."""
