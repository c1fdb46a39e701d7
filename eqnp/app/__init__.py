"""What people use: the command line, the classifier for Python, reports, explanations, checks, benchmarks."""
