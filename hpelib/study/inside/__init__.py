"""What a network does inside, for chosen people."""
