"""Lines that other programs send to this port by mistake, most of them with a ``=`` in them."""

from __future__ import annotations

#: (line, the format that a refusal names)
FOREIGN = [
    (b"<13>Nov 27 10:00:00 web1 app[7]: type=x", "syslog"),
    (b'<165>1 2026-11-27T10:00:00Z web1 app 7 ID47 [x@1 a="b"] type=x', "syslog"),
    (b"_e{5,3}:title|a=b|#env:prod", "a DogStatsD event or service check"),
    (b"_sc|disk|0|#env=prod", "a DogStatsD event or service check"),
    (b"deploys:1|c|#env=prod", "a DogStatsD metric"),
    (b"deploys:1|c|@0.5|#env:prod,a=b", "a DogStatsD metric"),
    (b"deploys:1|c", "StatsD"),
    (b"deploys,env=prod:1|c", "StatsD"),
    (b"deploys;env=prod:320|ms|@0.1", "StatsD"),
    (b"cpu,host=a load=1 2", "Influx line protocol"),
    (b"cpu load=1", "Influx line protocol"),
    (b"cpu,host=a,zone=b load=1,idle=2i 1465839830100400200", "Influx line protocol"),
    (b"export type=x", "a shell command"),
    (b"set type=x", "a shell command"),
    (b'$env:type="x"', "a shell command"),
    (b"\xff\xfet\0y\0p\0e\0=\0x\0", "UTF-16"),
    (b"t\0y\0p\0e\0=\0x\0", "UTF-16"),
    (b"\0t\0y\0p\0e\0=\0x", "UTF-16"),
    (b'deploys{env="prod"} 1', "the Prometheus text format"),
    (b"# TYPE deploys counter", "the Prometheus text format"),
    (b"# HELP deploys a=b", "the Prometheus text format"),
    (b"deploys.count 1 1465839830", "Graphite"),
    (b"deploys;env=prod 1 1465839830", "Graphite"),
    (b'{"what": "deploy", "tags": "a b"}', "an event of Graphite, for POST /events/"),
    (
        b' {"when": 1465839830, "data": "a=b", "what" : "deploy"}',
        "an event of Graphite, for POST /events/",
    ),
    (b'{"what": "deploy"}', "JSON"),
    (b'{"type": "x"}', "JSON"),
    (b'{"text": "a=b"}', "JSON"),
    (b'[{"type":"a=b"}]', "JSON"),
    (b"GET /event?type=x HTTP/1.1", "an HTTP request"),
    (b"http://localhost:8090/event?type=x", "a URL"),
    (b"/event?type=x", "a URL"),
]
#: No events either, and of no format that has a name.
UNNAMED = [b'"type=x"', b"'type=x'", b"a b c=1", b"a,b=1", b"data[a]=1", b"\xef\xbb\xbf\xef\xbb\xbftype=x"]
