"""The supervisor: PID 1 of a container, and the parent process of the control process and workers.

It uses the standard library only, and parses no data from outside of the program.
"""
