"""The conformance suite: tests any cluster DNS server by its replies.

With a kubeconfig, the suite also changes objects of the cluster. The expected replies are computed from a model of the
cluster (`cluster_model`) and the rules of the specification (`expected`), without svcdns's own code for replies.
"""
