"""The conformance suite: judges any cluster DNS by what it answers.

It speaks DNS to a server, and, where it is let, writes to the API server that this server watches. What is right is worked out here from a
description of the cluster (`description`) and the rules of the specification (`expected`); nothing of the server's own answering is used,
so that the judge does not share the defendant's mistakes.
"""
