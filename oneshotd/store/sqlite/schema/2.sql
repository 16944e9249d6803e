-- The store's layout, version 2: texts beside events, and what dialects keep of their senders.

-- The texts beside an event that are no labels (`detail.*`); an event without any has no row. Their bytes
-- are part of segment.total_size. Rows up to state.pruned are about to be deleted.
CREATE TABLE detail (
    seq    INTEGER PRIMARY KEY,
    detail TEXT NOT NULL       -- a JSON object of texts
);

-- What a later message of a sender needs of an earlier one.
CREATE TABLE keyed_state (
    key      TEXT PRIMARY KEY,
    value    INTEGER NOT NULL, -- of a beginning its time, Unix ms; of a count the count
    until_up INTEGER NOT NULL  -- up-time at which it expires
) WITHOUT ROWID;
CREATE INDEX keyed_state_until ON keyed_state (until_up);
