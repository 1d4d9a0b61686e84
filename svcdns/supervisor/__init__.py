"""The supervisor: PID 1 of a container, parent of control and workers. Standard library only; it parses no outside
data.
"""
