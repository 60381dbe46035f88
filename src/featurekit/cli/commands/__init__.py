"""The commands of `featurekit`."""
