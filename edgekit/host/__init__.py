"""Between the stages and the plugins: workers, the calls to them, and checks around every plugin call."""
