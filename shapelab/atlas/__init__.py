"""Atlas refinement."""
