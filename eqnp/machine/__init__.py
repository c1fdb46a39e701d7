"""Where a network runs: kernels, memory, threads, ranks and device."""
