-- Layout 1. Times: at, clock_at, touched, seen_at in Unix ms by the database's clock; up: ms of the
-- service's up-time, which grows by a few seconds at most while no daemon writes.

CREATE TABLE state (
  id smallint PRIMARY KEY CHECK (id = 1),
  layout int NOT NULL,
  oldest int NOT NULL,            -- a daemon that knows no newer layout than before this one may not use it
  pruned bigint NOT NULL,         -- seq up to which the log was deleted
  pruned_size bigint NOT NULL,    -- bytes of text that were ever logged up to there
  at bigint NOT NULL,             -- no event gets an earlier time
  up bigint NOT NULL,
  touched bigint NOT NULL,        -- when `up` was written
  corrected_at bigint,            -- the last correction of a clock that was ahead: when (Unix ms),
  corrected_ms bigint,            -- by how much,
  corrected_up bigint             -- and its up-time
) WITH (fillfactor = 10);

-- A session of a daemon. `epoch` grows with each connection, which ends whatever the one before still does.
CREATE TABLE daemon (
  id text PRIMARY KEY,            -- another one after each start
  name text NOT NULL DEFAULT '',  -- the same after each start
  number int GENERATED ALWAYS AS IDENTITY UNIQUE,
  epoch bigint NOT NULL,
  batch bigint NOT NULL,          -- its last batch among the deleted segments,
  batch_first bigint NOT NULL,    -- and the first seq of that batch
  up bigint NOT NULL              -- when it was last heard of
) WITH (fillfactor = 50);

-- The log: a segment has at most 2000 events of one commit. The end of the log is the last segment.
CREATE TABLE segment (
  first bigint PRIMARY KEY,
  count int NOT NULL,
  total_size bigint NOT NULL,     -- bytes of text that were ever logged up to its end
  up bigint NOT NULL,
  clock_at bigint NOT NULL,       -- ascends over the commits
  latest_at bigint NOT NULL,      -- latest time of its events
  touched bigint NOT NULL,
  daemon int NOT NULL,
  batch bigint NOT NULL,
  series bytea COMPRESSION lz4 NOT NULL,
  value bytea COMPRESSION lz4,
  offsets bytea COMPRESSION lz4   -- ms of each event after clock_at, 64 bit; NULL: all 0
);
CREATE INDEX segment_up ON segment (up);
CREATE INDEX segment_ahead ON segment (latest_at) WHERE offsets IS NOT NULL;

CREATE TABLE scraper (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  named boolean NOT NULL,
  timed boolean NOT NULL DEFAULT false,
  answered bigint NOT NULL DEFAULT 0,
  cursor bigint NOT NULL,
  owed int NOT NULL DEFAULT 0,
  seen_up bigint NOT NULL,
  seen_at bigint NOT NULL,
  event_time boolean NOT NULL DEFAULT false,
  floor_at bigint NOT NULL DEFAULT 0,
  latest_at bigint NOT NULL DEFAULT 0,
  timed_up bigint NOT NULL DEFAULT -1,  -- up-time of its last scrape, if that had the timeout header; else -1
  shown_end bigint NOT NULL DEFAULT 0,  -- up to this seq it may have read counts that came back
  -- The lease. The token stays when it has ended, so that every statement can be repeated.
  token bigint,
  ended bigint,                   -- token of the lease before, if it ended in order
  undone bigint[] NOT NULL DEFAULT '{}',  -- tokens of the latest deliveries that were returned or revoked
  final bigint,                   -- token of the last delivery that its lapse has made final
  state smallint NOT NULL DEFAULT 0,  -- 0 free, 1 reserved, 2 delivered and revocable
  until_up bigint NOT NULL DEFAULT 0,
  holder text,                    -- id of its daemon
  visit_timed boolean NOT NULL DEFAULT false,
  -- What a revocation restores.
  was_cursor bigint NOT NULL DEFAULT 0,
  was_answered bigint NOT NULL DEFAULT 0,
  was_owed int NOT NULL DEFAULT 0,
  was_event_time boolean NOT NULL DEFAULT false,
  was_floor_at bigint NOT NULL DEFAULT 0,
  was_latest_at bigint NOT NULL DEFAULT 0,
  was_shown_end bigint NOT NULL DEFAULT 0,
  was_lost jsonb NOT NULL DEFAULT '{}',
  late bigint,                    -- token of the last settlement or revocation that came too late
  -- Figures, in events; they change with the statements that change the lease.
  delivered bigint NOT NULL DEFAULT 0,
  returned bigint NOT NULL DEFAULT 0,
  revoked bigint NOT NULL DEFAULT 0,
  uncertain bigint NOT NULL DEFAULT 0,
  superseded bigint NOT NULL DEFAULT 0,
  sent int NOT NULL DEFAULT 0,        -- of the last delivery
  queueing int NOT NULL DEFAULT 0,    -- series whose events wait behind each other
  visit_ups bigint[] NOT NULL DEFAULT '{}',   -- up-time of its last scrapes, ascending,
  overlap_ups bigint[] NOT NULL DEFAULT '{}', -- and of the last ones that met another delivery in flight;
  overlap_token bigint            -- the newest of these deliveries
) WITH (fillfactor = 50);
CREATE INDEX scraper_token ON scraper (token);
CREATE INDEX scraper_ended ON scraper (ended);

CREATE TABLE owed (
  scraper bigint NOT NULL REFERENCES scraper,
  seq bigint NOT NULL,
  at bigint NOT NULL,
  series bytea NOT NULL,
  value bytea,
  born bigint,                    -- token of the delivery that left it behind
  gone bigint,                    -- token of the delivery that has it, until that is final
  PRIMARY KEY (scraper, seq)
);

-- The latest sample of a series that a scraper has got, where its time was not an event's.
CREATE TABLE shown (
  scraper bigint NOT NULL REFERENCES scraper,
  series bytea NOT NULL,
  at bigint NOT NULL,
  up bigint NOT NULL,
  ahead boolean NOT NULL,
  PRIMARY KEY (scraper, series)
);

CREATE TABLE key (
  key bytea PRIMARY KEY,
  digest bytea NOT NULL,
  stored int NOT NULL,
  duplicates int NOT NULL,
  first bigint NOT NULL,
  up bigint NOT NULL
);
CREATE INDEX key_up ON key (up);

CREATE TABLE loss (
  scraper text NOT NULL,
  reason text NOT NULL,
  events bigint NOT NULL,
  up bigint NOT NULL,
  PRIMARY KEY (scraper, reason)
);
