"""The container image, built and run for real; scripts/container_test.sh runs this."""
