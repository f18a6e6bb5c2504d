"""The operator's configuration: how it is read and checked, and the classes that hold it."""
