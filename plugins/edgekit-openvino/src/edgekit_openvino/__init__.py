"""The OpenVINO backend of edgekit. The halves are found by entry points; nothing is imported here."""
