-- The store's layout, version 1. Times ending in `_up` are milliseconds of the daemon's own
-- up-time (it stands still while no daemon runs), times ending in `_at` are Unix milliseconds.

-- One row: where the log begins, and what must outlive an empty log.
CREATE TABLE state (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    pruned      INTEGER NOT NULL,  -- highest seq that has been dropped; the log begins after it
    pruned_size INTEGER NOT NULL,  -- value of segment.total_size up to there, bytes
    now_up      INTEGER NOT NULL,  -- up-time when this row was written
    clock_at    INTEGER NOT NULL,  -- no acceptance time after a restart is earlier, unless the clock was wrong
    commits     INTEGER NOT NULL   -- transactions that wrote and appended nothing: the log tells of the others
);

-- The log: the events of one commit (or a part of it) in order, seq = first, first + 1, …
-- A row a commit and not a row an event: an event then costs a line of text, no b-tree entry.
CREATE TABLE segment (
    first      INTEGER PRIMARY KEY, -- seq of its first event
    count      INTEGER NOT NULL,    -- number of events
    total_size INTEGER NOT NULL,    -- bytes of text ever logged up to the end of this segment
    up         INTEGER NOT NULL,    -- up-time of acceptance, ms
    clock_at   INTEGER NOT NULL,    -- acceptance time; `at` of each event where `ats` is NULL
    latest_at  INTEGER NOT NULL,    -- greatest `at` given so far, here or in any earlier segment
    series     TEXT NOT NULL,       -- series texts, one a line (they have no raw newline)
    value      TEXT,                -- values, one a line, an empty line for none; NULL: none at all
    ats        BLOB                 -- `at` of each event, signed 64 bit little endian; or NULL
);

-- Who scrapes. A row goes when its scraper was not seen for a hold.
CREATE TABLE scraper (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    named    INTEGER NOT NULL,  -- 1: it gave its name itself, so it is waited for from the start
    timed    INTEGER NOT NULL,  -- 1: it sends X-Prometheus-Scrape-Timeout-Seconds
    answered INTEGER NOT NULL,  -- scrapes that were delivered
    cursor   INTEGER NOT NULL,  -- seq up to which all is settled, apart from what is owed
    seen_up  INTEGER NOT NULL,
    seen_at  INTEGER NOT NULL,
    event_time INTEGER NOT NULL, -- 1: its last response carried the events' own times
    floor_at   INTEGER NOT NULL, -- no sample with a time of its own may be earlier
    latest_at  INTEGER NOT NULL  -- latest time of any sample that it was shown
);

-- Events behind a scraper's cursor that it has yet to get. They are copies, so that one series
-- that queues for a scraper does not keep the whole log behind it.
CREATE TABLE owed (
    scraper INTEGER NOT NULL REFERENCES scraper (id),
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    series  TEXT NOT NULL,
    value   TEXT,
    PRIMARY KEY (scraper, seq)
) WITHOUT ROWID;

-- Samples whose time was not that of their event, or that a clock which was ahead has dated: the next
-- sample of the series has to be later. Others follow from the log.
CREATE TABLE shown (
    scraper INTEGER NOT NULL REFERENCES scraper (id),
    series  TEXT NOT NULL,
    at      INTEGER NOT NULL,  -- time of the latest sample of the series
    up      INTEGER NOT NULL,  -- up-time of its delivery, or of the correction of the clock
    ahead   INTEGER NOT NULL,  -- 1: it was ahead of the clock when the clock was corrected
    PRIMARY KEY (scraper, series)
) WITHOUT ROWID;

-- Idempotency keys, kept for the hold, with what was answered the first time.
CREATE TABLE key (
    key        TEXT PRIMARY KEY,
    digest     BLOB NOT NULL,     -- of the content that came with it
    stored     INTEGER NOT NULL,  -- events stored then
    duplicates INTEGER NOT NULL,  -- events known by their own keys then
    first      INTEGER NOT NULL,  -- seq of the first stored one
    up         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_up ON key (up);

-- What scrapers missed: live ones by upkeep, any by a settlement, which names the reason.
-- Kept a day after the scraper has gone, so that it can be read.
CREATE TABLE loss (
    scraper TEXT NOT NULL,
    reason  TEXT NOT NULL,
    events  INTEGER NOT NULL,
    up      INTEGER NOT NULL,
    PRIMARY KEY (scraper, reason)
) WITHOUT ROWID;
