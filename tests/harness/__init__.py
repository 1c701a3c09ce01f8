"""What the tests share: real processes, databases, servers, projects, and readers of the code."""
