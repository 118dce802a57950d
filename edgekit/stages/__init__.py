"""The four stages and the package runner: frozen values in, a frozen value and one new directory out."""
