"""Zone text with records of every type, for comparing readers of zone files."""

from __future__ import annotations

from typing import Final

HEAD: Final = "$TTL 300\n@ IN SOA ns admin 1 2h 1h 2w 5m\n@ IN NS ns\nns IN A 192.0.2.1\n"
"""What a zone has to have."""

RECORDS: Final = r"""
A           192.0.2.5
A           \# 4 c0000205
AAAA        2001:db8::5
AAAA        ::ffff:192.0.2.5
NS          ns.elsewhere.example.
NS          n
CNAME       web
CNAME       @
CNAME       back\\slash.do\.t.\032blank
PTR         host.example.org.
DNAME       other
MX          10 mail
MX          0 .
TXT         "one; two" three "q\"q" "\065\;" ""
TXT         (  "over"  ; a comment
  "lines" )
SPF         "v=spf1 -all"
AVC         "app-name:Mill|app-class:OAM"
NINFO       "status=up"
RESINFO     qnamemin exterr=15,16,17 infourl=https://resolver.example.com/guide
WALLET      "ETH" "0x1234"
HINFO       "PC" Linux
SRV         1 2 3 t
SRV         0 0 0 .
NAPTR       100 10 "u" "E2U+sip" "!^(.*)$!sip:\\1@mill.test!" .
NAPTR       1 1 "" "" "" svc\.one
CAA         0 issue "ca.example\; policy=ev"
CAA         128 iodef "mailto:a\"b"
URI         10 1 "https://www.example.org/path"
LOC         42 21 54 N 71 06 18 W -24m 30m
LOC         1 2 3.500 S 4 5 6.000 W -20.00m 10.00m 100.00m 5.00m
RP          admin.mill.test. txt
AFSDB       1 afs
KX          10 kx
RT          2 relay
PX          10 a b.mill.test.
X25         311061700956
ISDN        "150862028003217" "004"
NSAP        0x47000580005a0000000001e133ffffff00016100
NSAP-PTR    foo
GPOS        -32.6882 116.8652 10.0
MB          m
MD          m
MF          m
MG          g.mill.test.
MR          x
MINFO       a b.mill.test.
EID         e32c6f78163a9348
NIMLOC      32251a030067
RKEY        0 3 13 AQIDBA==
TALINK      a b.mill.test.
UINFO       "someone"
UID         1000
GID         100
NULL        \# 3 abcdef
NXT         next A MX TXT
TYPE65280   \# 4 0a000001
TYPE731     \# 0
TYPE64      \# 3 000100
CERT        PKIX 1 RSASHA1 AQIDBA==
CERT        3 65535 8 AAAA
APL         1:192.168.32.0/21 !1:192.168.38.0/28 2:2001:db8::/32
APL         1:0.0.0.0/0
SSHFP       4 2 ( 123456789abcdef67890123456789abcdef67890
  123456789abcdef678901234 )
IPSECKEY    10 1 2 192.0.2.38 AQNRU3mG7TVT
IPSECKEY    10 0 2 . AQNRU3mG7TVT
IPSECKEY    10 2 2 2001:db8::9 AQNRU3mG7TVT
IPSECKEY    10 3 2 gate AQNRU3mG7TVT
AMTRELAY    10 0 1 203.0.113.15
AMTRELAY    128 1 3 amt
DS          12345 13 2 49fd46e6c4b45c55d4ac69cbd3cd34ac1afe51de49fd46e6c4b45c55d4ac69cb
DS          12345 ECDSAP256SHA256 2 49fd46e6c4b45c55d4ac69cbd3cd34ac 1afe51de49fd46e6c4b45c55d4ac69cb
CDS         0 0 0 00
DLV         12345 13 2 49fd46e6c4b45c55d4ac69cbd3cd34ac1afe51de49fd46e6c4b45c55d4ac69cb
TA          12345 13 2 49fd46e6c4b45c55d4ac69cbd3cd34ac1afe51de49fd46e6c4b45c55d4ac69cb
DNSKEY      257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
DNSKEY      256 3 ECDSAP256SHA256 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
CDNSKEY     0 3 0 AA==
KEY         256 3 5 AQIDBA==
RRSIG       A 13 3 300 20301231000000 20201231000000 12345 mill.test. AQIDBAUG
RRSIG       TYPE65280 8 3 300 1924905600 1609372800 12345 @ AQID BAUG
SIG         A 13 3 300 20301231000000 20201231000000 12345 mill.test. AQIDBAUG
NSEC        next A RRSIG NSEC TYPE65280
NSEC3       1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX DNSKEY NS SOA NSEC3PARAM RRSIG
NSEC3       1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A
NSEC3PARAM  1 0 12 aabbccdd
TLSA        3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
SMIMEA      3 1 1 d2abde240d7cd3ee6b4b28c54df034b9 7983a1d16e8a410e4561cb106618e971
OPENPGPKEY  AQIDBAUG
CSYNC       66 3 A NS AAAA
ZONEMD      2018031500 1 1 febe3d4ce2ec2ffa4ba99d46cd69d6d29711e55217057bee7eb1a7b641a47ba7fed2dd5b97ae499fafa4f22c6bd647de
DHCID       AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=
EUI48       00-00-5e-00-53-2a
EUI64       00-00-5e-ef-10-00-00-2a
NID         10 0014:4fff:ff20:ee64
L32         10 10.1.2.0
L64         10 2001:0db8:1140:1000
LP          10 l64
HIP         2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMz
HIP         2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMz rvs
SVCB        1 svc2 alpn="h2,h3" port=8443 ipv4hint=192.0.2.8
SVCB        0 pool
SVCB        1 web alpn=h2 key667="a\032b"
HTTPS       1 . no-default-alpn alpn=h2 mandatory=alpn
HTTPS       2 web ipv6hint=2001:db8::1 port=444 alpn=h3
HTTPS       1 . ech=AAT+DQAA
HTTPS       1 . key65000=abc key65001
HTTPS       1 . alpn="f\\\\oo\\,bar,h2"
""".strip()
"""Type and data; a line that begins with a blank goes on."""


def zone(records: str = RECORDS) -> str:
    """Returns a zone with these records. Each record has its own name: `r0`, `r1` and so on."""
    out, number = [HEAD], 0
    for line in records.splitlines():
        out.append(line if line.startswith(" ") else f"r{number} IN {line}")
        number += not line.startswith(" ")
    return "\n".join(out) + "\n"
