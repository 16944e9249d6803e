"""Good input, and the words that such input is made of: what a campaign starts from."""

from __future__ import annotations

import gzip
from urllib.parse import quote

from support.foreign_lines import FOREIGN

ESCAPES = (
    b"%00 %0A %0a %0D %22 %25 %26 %2B %3D %5C %5c %C3%A9 %E2%80%A8 %EF%BB%BF %F0%9F%98%80 %FF %C0%80"
    b" %ED%A0%80 \xef\xbb\xbf \xe2\x80\xa8"
).split(b" ")
NAMES = (
    b"type value __name__ __id__ __x detail. detail.text detail_text le quantile job"
    b" instance 1st a-b events_to_metrics up a:b neighbour"
    b" neighbour_total neighbour_created neighbour_info neighbour_bucket oneshotd_refused_total"
    b" process_cpu_seconds_total"
).split(b" ")
NUMBERS = (
    *b"37.5 -0 +1 1e3 1e-400 nan NaN +Inf -Infinity .5 5. 4.9e-324 1.7976931348623157e308".split(b" "),
    b" 1",
    b"1E 3",
)
NO_NUMBERS = b"1e309 0x1p-2 1_0 -nan 1e 0b1 Inf1".split(b" ")

#: What other formats are told by, and what editors and C buffers leave around a line.
FOREIGN_WORDS = (
    *b"<13> _e{5,3}: _sc| :1|c |#env= |@0.5 |ms , ; | < { } export # HELP _sum /event? http:// HTTP/".split(),
    *(b" ", b"\t", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"a\0", b"\0a", b"\r\0", b" \n", b"\0\n"),
)
QUERY_WORDS = (
    *(*ESCAPES, *NAMES, *NUMBERS, *NO_NUMBERS, *FOREIGN_WORDS, *(line for line, _ in FOREIGN)),
    *(b"=", b"&", b"&&", b"+", b"%", b"\r", b"\n", b"\0", b"\\", b'"'),
)
JSON_WORDS = (
    *(*NUMBERS, *NO_NUMBERS),
    *(b'"%s"' % name for name in NAMES),
    *rb'''"\u0000" "\ud800" "\ud83d\ude00" "\n" "\\" ""'''.split(b" "),
    *b'{" ": , } [ ] null true false - [[[[[['.split(b" "),
    b"\n",
)
HTTP_WORDS = (
    *(b"GET ", b"HEAD ", b"POST ", b"OPTIONS ", b"PUT ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n\r\n"),
    *(
        b" HTTP/1.1\n",
        b"\n\n",
        b"Host: x\n",
        b"*",
        b"\xc3\xa4",
        b"\x16\x03\x01",
        b"PROXY TCP4 ",
        b"Content-Length: x\r\n",
    ),
    *b"/hook/ cloudevents github /api/v1/try-hook/ application/cloudevents+json".split(b" "),
    *b"/ /event /events /metrics /healthz /readyz /api/v1/events /api/v1/scrapers".split(b" "),
    *b"? scraper=ann limit=5 timestamps=event 9 0".split(b" "),
    *(
        b"%s\r\n" % line
        for line in (
            b"Host: x",
            b"Content-Length: 9",
            b"Transfer-Encoding: chunked",
            b"9",
            b"0\r\n",
            b"Content-Type: text/plain",
            b"Content-Type: application/json",
            b"Content-Type: application/x-ndjson",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Type: multipart/form-data; boundary=x",
            b"Content-Encoding: gzip",
            b"Content-Type: application/cloudevents-batch+json",
            b"ce-specversion: 1.0",
            b"ce-id: 1",
            b'Idempotency-Key: "k"',
            b"Accept: application/openmetrics-text;q=0.5",
            b"Accept: text/html",
            b"Accept: application/xhtml+xml;q=.1",
            b"Sec-Fetch-Mode: navigate",
            b"Accept: application/json",
            b"Accept-Encoding: gzip",
            b"Connection: close",
            b"Expect: 100-continue",
            b"X-Prometheus-Scrape-Timeout-Seconds: 5",
            b"X-Forwarded-For: ::1",
            b"Origin: null",
            b"Sec-Fetch-Site: cross-site",
            b"User-Agent: Prometheus/3.5",
        )
    ),
)

LINES = (
    b"type=deploy&version=1.2",
    b"text=<13>Nov 27 web1 app: a=b&kubernetes.io/name=x&value= 1 ",
    b"__name__=backup&result=failed&value=37.5&__id__=7f3",
    b"m=%0A%22%5C%00+x&1st=\xc3\xa9&a-b=",
    b"value= 1e+3&le=0.5&quantile=0.9",
    b"type=deploy&detail.text=a%0D%0Ab%22%00&detail.link=https://a.b/",
)
OBJECTS = (
    b'{"type": "deploy", "ok": true, "n": 1.50, "none": null}',
    b'{"__name__": "backup", "value": "NaN", "__id__": "7f3", "m": "\\n\\"\\\\\\u0000"}',
)
ARRAY = b"[" + b",".join(OBJECTS) + b"]"
KEYS = (b"7f3", b' "a\\"b\\\\c"')
KEY_WORDS = (b'"', b"\\", b"\\\\", b'\\"', b"\t")


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """A whole request; Host and Content-Length are added."""
    length = (b"Content-Length: %d" % len(body),) if body else ()
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: x", *headers, *length, b"", body])


CLOUDEVENT = b'{"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "time": "2026-11-22T22:15:00Z"}'
STRUCTURED = b"Content-Type: application/cloudevents+json"
GZIPPED = (gzip.compress(CLOUDEVENT), gzip.compress(b"a") + gzip.compress(bytes(1000)) + bytes(9))

#: What `connections.serve` takes: a byte that says how to cut the rest, then requests.
REQUESTS = (
    *(b"\0" + request(b"POST /event?" + quote(line, "=&%+").encode()) for line in LINES),
    b"\1" + request(b"POST /events", b"Content-Type: text/plain", body=b"\n".join(LINES)),
    b"\7" + request(b"POST /events", b"Content-Type: application/x-ndjson", body=b"\n".join(OBJECTS)),
    b"\0" + request(b"POST /events", b"Content-Type: application/json", body=ARRAY),
    b"\0" + request(b"POST /event?x=1", b"Content-Type: application/json", body=OBJECTS[0]),
    b"\0" + request(b"POST /event?a=1", b'Idempotency-Key: "k"', b"Content-Type:", body=b"b=2"),
    b"\0" + request(b"POST /events", b"Transfer-Encoding: chunked") + b"6\r\ntype=a\r\n0\r\n\r\n",
    b"\0"
    + request(b"POST /hook/cloudevents", b"Content-Type: application/cloudevents+json", body=CLOUDEVENT),
    b"\0" + request(b"POST /event", b"ce-specversion: 1.0", b"ce-id: 1", b"ce-source: x", b"ce-type: t"),
    b"\0"
    + request(
        b"POST /hook/cloudevents",
        STRUCTURED,
        b"Content-Encoding: gzip",
        body=GZIPPED[0],
    ),
    b"\0" + request(b"OPTIONS /hook/cloudevents", b"WebHook-Request-Origin: x"),
    b"\0" + request(b"GET /metrics?scraper=ann&limit=7", b"X-Prometheus-Scrape-Timeout-Seconds: 5"),
    b"\0" + request(b"GET /metrics", b"Accept: application/openmetrics-text", b"Accept-Encoding: gzip") * 3,
    b"\0"
    + request(b"GET /api/v1/events?type=deploy&__label__limit=7&limit=7&since=2026-11-22T22:15:00Z&before=9"),
    b"\0" + request(b"GET /", b"Accept: text/html") + request(b"HEAD /readyz") + request(b"GET /x%2f"),
)
