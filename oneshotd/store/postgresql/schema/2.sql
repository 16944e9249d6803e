-- Layout 2: what dialects need beside the log, and sessions. Daemons of layout 1 go on: they use none of it.

-- Text beside an event that is no label. A row may outlive its event until the next turn of retention.
CREATE TABLE detail (
  seq bigint PRIMARY KEY,
  detail bytea COMPRESSION lz4 NOT NULL -- a JSON object of strings
);

-- What a dialect keeps from one event for a later one: the time of a start, or a count.
CREATE TABLE keyed_state (
  key bytea PRIMARY KEY,
  value bigint NOT NULL,
  until_up bigint NOT NULL              -- it ends at this up-time; -1: claimed by a transaction under way
) WITH (fillfactor = 50);
CREATE INDEX keyed_state_until ON keyed_state (until_up);

-- It grows with each connection that grants leases; the ones before grant none any more.
ALTER TABLE daemon ADD COLUMN IF NOT EXISTS session bigint NOT NULL DEFAULT 0;
