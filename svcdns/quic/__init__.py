"""QUIC connections (RFC 9000) for servers and upstreams, with the library aioquic. Imported only where QUIC is used."""
