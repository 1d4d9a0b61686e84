"""The conformance suite: tests any cluster DNS server by its answers.

It speaks DNS to a server. With a kubeconfig it also writes to the API server that this server watches. What is right is worked
out here from a
description of the cluster (`description`) and the rules of the specification (`expected`); none of the server's own code for
answers is used, so that the suite does not share the server's mistakes.
"""
