// A scraper that reads a part of one response, and closes the connection as Go's HTTP client does.
//
//	scrape_once https://127.0.0.1:8090/metrics?scraper=x PART VERSION KEEP-ALIVE
//
// PART: all, all-but-one, or a number of bytes. VERSION: 1.2 or 1.3, or - without TLS. KEEP-ALIVE: keep or close.
// It prints the bytes of the body that it has read, and how many there are.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	url, part, version, keep := os.Args[1], os.Args[2], os.Args[3], os.Args[4] == "keep"
	settings := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if version == "1.2" {
		settings.MaxVersion = tls.VersionTLS12
	}
	transport := &http.Transport{TLSClientConfig: settings, DisableKeepAlives: !keep, DisableCompression: true}
	request, err := http.NewRequest("GET", url, nil)
	check(err)
	request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "20")
	response, err := transport.RoundTrip(request)
	check(err)
	if response.StatusCode != 200 {
		check(fmt.Errorf("status %s", response.Status))
	}
	wanted := response.ContentLength
	switch part {
	case "all":
	case "all-but-one":
		wanted--
	default:
		wanted, err = strconv.ParseInt(part, 10, 64)
		check(err)
	}
	read, err := io.CopyN(io.Discard, response.Body, wanted)
	check(err)
	if part == "all" {
		_, err = response.Body.Read(make([]byte, 1))
		if err != io.EOF {
			check(fmt.Errorf("more than the length: %v", err))
		}
	}
	response.Body.Close()
	transport.CloseIdleConnections()
	fmt.Println(read, response.ContentLength)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
