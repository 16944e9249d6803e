# For the tests: start the service, by systemd if it runs, else by the command line of the unit.
url=http://localhost:8090
unit=/usr/lib/systemd/system/oneshotd.service

start_service() {
    if [ -d /run/systemd/system ]; then
        systemctl start oneshotd
    else
        ONESHOTD_OPTS=
        # shellcheck disable=SC2046  # the words of the command line
        set -- $(sed -n 's/^ExecStart=\(.*\) \$ONESHOTD_OPTS$/\1/p' "$unit")
        cd /var/lib/oneshotd
        STATE_DIRECTORY=/var/lib/oneshotd setpriv --reuid=oneshotd --regid=oneshotd --init-groups \
            --no-new-privs --bounding-set=-all --inh-caps=-all \
            "$@" >"$AUTOPKGTEST_TMP/oneshotd.log" 2>&1 &
        service=$!
        trap stop_service EXIT
        cd "$AUTOPKGTEST_TMP"
    fi
    curl --silent --fail --retry 30 --retry-delay 1 --retry-all-errors "$url/readyz"
}

stop_service() {
    kill "$service"
    wait "$service" || true
    cat "$AUTOPKGTEST_TMP/oneshotd.log"
}
