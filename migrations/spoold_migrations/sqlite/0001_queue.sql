-- The outgoing queue. Tables are private; the views spoold_outbox and spoold_status are the interface.
-- Times are milliseconds since 1970 UTC. Flags are MAPI's numbers.
-- What runs in the writer's own connection (views, triggers) uses only functions that SQLite counts as innocuous,
-- so that PRAGMA trusted_schema=OFF works everywhere.

CREATE TABLE spoold_message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    entry_id TEXT NOT NULL UNIQUE CHECK (length(entry_id) = 32 AND entry_id NOT GLOB '*[^0-9a-f]*'),
    -- incoming: content is still being written, invisible.  draft.  submitted: placed by SQL, not yet checked.
    -- ready: checked, the spooler's.  finished: every recipient is settled.
    stage TEXT NOT NULL CHECK (stage IN ('incoming', 'draft', 'submitted', 'ready', 'finished')),
    message_flags INTEGER NOT NULL,
    sender TEXT NOT NULL,
    subject TEXT NOT NULL DEFAULT '',
    message_size INTEGER NOT NULL CHECK (message_size >= 0),
    digest BLOB,                                -- SHA-256 of the content as stored; none before the check
    eight_bit INTEGER NOT NULL DEFAULT 0 CHECK (eight_bit IN (0, 1)),
    utf8 INTEGER NOT NULL DEFAULT 0 CHECK (utf8 IN (0, 1)),
    priority INTEGER NOT NULL DEFAULT 0 CHECK (priority IN (-1, 0, 1)),
    client_submit_time INTEGER,
    deferred_send_time INTEGER,
    expires_time INTEGER,
    key TEXT,
    sent_folder TEXT,
    delete_after_submit INTEGER NOT NULL DEFAULT 0 CHECK (delete_after_submit IN (0, 1)),
    intake_token INTEGER,                       -- the spooler that is checking it
    final_state TEXT,                           -- of a finished message
    finished_time INTEGER,
    CHECK ((stage = 'finished') = (final_state IS NOT NULL)),
    CHECK (stage IN ('incoming', 'draft') OR client_submit_time IS NOT NULL),
    CHECK (stage <> 'ready' OR message_flags & 4)
) STRICT;

CREATE INDEX spoold_message_outgoing ON spoold_message (client_submit_time, id) WHERE stage IN ('submitted', 'ready');
CREATE INDEX spoold_message_unchecked ON spoold_message (id) WHERE stage = 'submitted';
CREATE INDEX spoold_message_incoming ON spoold_message (id) WHERE stage = 'incoming';
CREATE INDEX spoold_message_expiring ON spoold_message (expires_time) WHERE expires_time IS NOT NULL AND stage = 'ready';

CREATE TABLE spoold_recipient (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('to', 'cc', 'bcc')),
    address TEXT NOT NULL,
    address_type TEXT NOT NULL DEFAULT 'SMTP',
    state TEXT NOT NULL CHECK (state IN ('queued', 'held', 'claimed', 'locked', 'sent', 'failed', 'aborted', 'in_doubt', 'expanded')),
    token INTEGER,                              -- the claim that owns it; its upper half is the spooler's incarnation
    in_doubt INTEGER NOT NULL DEFAULT 0 CHECK (in_doubt IN (0, 1)),
    abort_wish INTEGER NOT NULL DEFAULT 0 CHECK (abort_wish IN (0, 1)),
    responsibility INTEGER NOT NULL DEFAULT 0 CHECK (responsibility IN (0, 1)),
    priority INTEGER NOT NULL DEFAULT 0,        -- the message's, for the index
    due INTEGER,                                -- none before the message was checked
    attempts INTEGER NOT NULL DEFAULT 0,
    route_position INTEGER NOT NULL DEFAULT 0,  -- how many transports of the route have said NotMine
    transport TEXT,
    destination TEXT,                           -- a cache of the routing; none: to be routed
    reply_code INTEGER,
    reply_enhanced TEXT,
    reply_text TEXT,
    changed INTEGER NOT NULL,                   -- when the state was last written: the time of its event
    CHECK ((state IN ('claimed', 'locked')) = (token IS NOT NULL)),
    CHECK (abort_wish = 0 OR state NOT IN ('queued', 'held', 'claimed'))
) STRICT;

CREATE INDEX spoold_recipient_message ON spoold_recipient (message_id);
CREATE INDEX spoold_recipient_ready ON spoold_recipient (destination, priority, due, id) WHERE state = 'queued' AND due IS NOT NULL;
CREATE INDEX spoold_recipient_in_flight ON spoold_recipient (token) WHERE state IN ('claimed', 'locked');

CREATE INDEX spoold_recipient_doubtful ON spoold_recipient (message_id) WHERE in_doubt;
CREATE INDEX spoold_message_finished ON spoold_message (final_state, finished_time) WHERE stage = 'finished';

CREATE TABLE spoold_content (
    message_id INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    data BLOB NOT NULL CHECK (length(data) <= 262144),
    PRIMARY KEY (message_id, seq)
) STRICT;

CREATE TABLE spoold_event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    entry_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    recipient_id INTEGER,
    address TEXT,
    attempt INTEGER,
    transport TEXT,
    destination TEXT,
    reply_code INTEGER,
    reply_enhanced TEXT,
    reply_text TEXT
) STRICT;

CREATE INDEX spoold_event_message ON spoold_event (message_id);
CREATE INDEX spoold_event_withdrawn ON spoold_event (seq) WHERE kind IN ('aborted', 'in_doubt', 'held');

CREATE INDEX spoold_event_flushed ON spoold_event (seq) WHERE kind = 'flushed';

CREATE TABLE spoold_key (
    key TEXT PRIMARY KEY,
    entry_id TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE spoold_spooler (
    id INTEGER PRIMARY KEY AUTOINCREMENT,       -- the incarnation: the token of its claims, never used again
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    mark TEXT NOT NULL,                         -- names its lock file and its doorbell beside the queue
    started INTEGER NOT NULL,
    beat INTEGER NOT NULL DEFAULT 0,
    ended INTEGER,
    end_reason TEXT
) STRICT;

CREATE INDEX spoold_spooler_alive ON spoold_spooler (id) WHERE ended IS NULL;

CREATE TABLE spoold_transport (
    name TEXT NOT NULL,
    spooler INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'suspended')),
    reason TEXT NOT NULL DEFAULT '',
    since INTEGER NOT NULL,
    PRIMARY KEY (name, spooler)
) STRICT, WITHOUT ROWID;

-- The timeline and the end of a message are written here, in the transaction of the transition itself, whoever makes it.

CREATE TRIGGER spoold_message_submitted AFTER INSERT ON spoold_message WHEN NEW.stage IN ('submitted', 'ready')
BEGIN
    INSERT INTO spoold_event (at, message_id, entry_id, kind) VALUES (NEW.client_submit_time, NEW.id, NEW.entry_id, 'submitted');
END;

CREATE TRIGGER spoold_message_flipped AFTER UPDATE OF stage ON spoold_message
WHEN OLD.stage IN ('incoming', 'draft') AND NEW.stage IN ('submitted', 'ready')
BEGIN
    INSERT INTO spoold_event (at, message_id, entry_id, kind) VALUES (NEW.client_submit_time, NEW.id, NEW.entry_id, 'submitted');
END;

CREATE TRIGGER spoold_recipient_moved AFTER UPDATE OF state ON spoold_recipient
WHEN NEW.state IN ('sent', 'failed', 'aborted', 'in_doubt', 'held', 'expanded')
    OR NEW.attempts > OLD.attempts OR NEW.in_doubt > OLD.in_doubt OR OLD.state = 'held' OR NEW.abort_wish > OLD.abort_wish
BEGIN
    INSERT INTO spoold_event (at, message_id, entry_id, kind, recipient_id, address, attempt, transport, destination, reply_code, reply_enhanced, reply_text)
    SELECT NEW.changed, NEW.message_id, m.entry_id,
        CASE
            WHEN NEW.state NOT IN ('queued', 'locked') THEN NEW.state
            WHEN NEW.state = 'locked' THEN 'abort_wish'
            WHEN OLD.state = 'held' THEN 'released'
            WHEN NEW.in_doubt > OLD.in_doubt OR NEW.in_doubt AND OLD.state = 'locked' AND NEW.reply_code IS NULL THEN 'doubt'
            ELSE 'deferred'
        END,
        NEW.id, NEW.address, NEW.attempts, NEW.transport, NEW.destination, NEW.reply_code, NEW.reply_enhanced, NEW.reply_text
    FROM spoold_message m WHERE m.id = NEW.message_id;

    -- The last recipient is settled. An aborted message is a draft again: UNSENT, and its key is free.
    UPDATE spoold_message SET
        stage = 'finished',
        finished_time = NEW.changed,
        intake_token = NULL,
        message_flags = message_flags & ~12,
        final_state = (
            SELECT CASE WHEN max(r.state = 'in_doubt') THEN 'in_doubt' WHEN min(r.state) = max(r.state) THEN min(r.state) ELSE 'partial' END
            FROM spoold_recipient r WHERE r.message_id = NEW.message_id AND r.state <> 'expanded'
        )
    WHERE id = NEW.message_id AND NEW.state IN ('sent', 'failed', 'aborted', 'in_doubt') AND (
        SELECT 1 FROM spoold_recipient r
        WHERE r.message_id = NEW.message_id AND r.state IN ('queued', 'held', 'claimed', 'locked') ORDER BY r.id DESC LIMIT 1
    ) IS NULL;
    UPDATE spoold_message SET message_flags = message_flags | 8
    WHERE id = NEW.message_id AND NEW.state = 'aborted' AND stage = 'finished' AND final_state = 'aborted';
    DELETE FROM spoold_key WHERE NEW.state = 'aborted'
        AND key = (SELECT m.key FROM spoold_message m WHERE m.id = NEW.message_id AND m.stage = 'finished' AND m.final_state = 'aborted');

    -- PR_DELETE_AFTER_SUBMIT: gone as soon as everybody has it; what failed stays to be seen. The timeline is kept.
    DELETE FROM spoold_content WHERE NEW.state = 'sent' AND message_id = (
        SELECT m.id FROM spoold_message m WHERE m.id = NEW.message_id AND m.delete_after_submit AND m.final_state = 'sent'
    );
    DELETE FROM spoold_recipient WHERE NEW.state = 'sent' AND message_id = (
        SELECT m.id FROM spoold_message m WHERE m.id = NEW.message_id AND m.delete_after_submit AND m.final_state = 'sent'
    );
    DELETE FROM spoold_message WHERE id = NEW.message_id AND NEW.state = 'sent' AND delete_after_submit AND final_state = 'sent';
END;

CREATE VIEW spoold_status AS
SELECT
    m.entry_id,
    CASE
        WHEN m.stage = 'finished' THEN m.final_state
        WHEN m.stage = 'draft' THEN 'draft'
        WHEN EXISTS (SELECT 1 FROM spoold_recipient r WHERE r.message_id = m.id AND r.state = 'locked') THEN 'locked'
        WHEN EXISTS (SELECT 1 FROM spoold_recipient r WHERE r.message_id = m.id AND r.state IN ('queued', 'claimed')) THEN 'queued'
        ELSE 'held'
    END AS state,
    m.sender,
    m.subject,
    (SELECT group_concat(address, '; ') FROM (SELECT address FROM spoold_recipient r WHERE r.message_id = m.id AND r.kind = 'to' ORDER BY r.id)) AS display_to,
    (SELECT group_concat(address, '; ') FROM (SELECT address FROM spoold_recipient r WHERE r.message_id = m.id AND r.kind = 'cc' ORDER BY r.id)) AS display_cc,
    (SELECT group_concat(address, '; ') FROM (SELECT address FROM spoold_recipient r WHERE r.message_id = m.id AND r.kind = 'bcc' ORDER BY r.id)) AS display_bcc,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.client_submit_time / 1000.0, 'unixepoch') AS client_submit_time,
    m.message_flags,
    CASE WHEN m.stage = 'submitted' THEN 2 ELSE 0 END
        | EXISTS (SELECT 1 FROM spoold_recipient r WHERE r.message_id = m.id AND r.state = 'locked') AS submit_flags,
    m.message_size,
    CASE m.priority WHEN 1 THEN 'high' WHEN 0 THEN 'normal' ELSE 'low' END AS priority,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.deferred_send_time / 1000.0, 'unixepoch') AS send_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.expires_time / 1000.0, 'unixepoch') AS expires_at,
    m.key,
    m.sent_folder,
    m.delete_after_submit,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.finished_time / 1000.0, 'unixepoch') AS finished_time
FROM spoold_message m
WHERE m.stage <> 'incoming'
ORDER BY m.client_submit_time, m.id;

-- INSERT submits, DELETE aborts, SELECT lists. recipients, content and hold are for INSERT alone.
CREATE VIEW spoold_outbox AS
SELECT
    m.entry_id, s.state, m.sender, m.subject, s.display_to, s.display_cc, s.display_bcc, s.client_submit_time,
    m.message_flags, s.submit_flags, m.message_size, s.priority, s.send_at, s.expires_at, m.key,
    m.sent_folder, m.delete_after_submit,
    NULL AS recipients, NULL AS content, NULL AS hold
FROM spoold_message m CROSS JOIN spoold_status s ON s.entry_id = m.entry_id
WHERE m.stage IN ('submitted', 'ready')
ORDER BY m.client_submit_time, m.id;

-- Explicit refusals: a conflict clause of the statement (OR IGNORE, OR REPLACE) overrides every constraint in here, but no RAISE.
CREATE TRIGGER spoold_outbox_insert INSTEAD OF INSERT ON spoold_outbox
BEGIN
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: sender must be text: an address, or an empty string for the null reverse-path')
    WHERE typeof(NEW.sender) <> 'text';
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: content must be the RFC 5322 message, as a blob or text that is not empty')
    WHERE typeof(NEW.content) NOT IN ('blob', 'text') OR length(CAST(NEW.content AS BLOB)) = 0;
    SELECT RAISE(ABORT, 'MAPI_E_NO_RECIPIENTS: recipients must be a JSON array with at least one address')
    WHERE NEW.recipients IS NULL OR replace(replace(replace(replace(NEW.recipients, ' ', ''), char(9), ''), char(10), ''), char(13), '') IN ('', '[]', 'null');
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: recipients must be a JSON array of addresses or of objects with an "address"')
    WHERE typeof(NEW.recipients) <> 'text'
        OR substr(trim(NEW.recipients, ' ' || char(9, 10, 13)), 1, 1) <> '['
        OR substr(trim(NEW.recipients, ' ' || char(9, 10, 13)), -1) <> ']';
    SELECT RAISE(ABORT, 'MAPI_E_NO_RECIPIENTS: recipients must be a JSON array with at least one address')
    WHERE NOT EXISTS (SELECT 1 FROM json_each(NEW.recipients));
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: a recipient must be an address, or an object with "address" and "type" to, cc or bcc')
    FROM json_each(NEW.recipients) e
    WHERE NOT (
        e.type = 'text'
        OR e.type = 'object'
            AND (SELECT count(*) FROM json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f WHERE f.key = 'address' AND f.type = 'text') = 1
            AND NOT EXISTS (
                SELECT 1 FROM json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f
                WHERE (
                    f.key NOT IN ('address', 'type', 'address_type', 'notify')
                    OR f.key = 'type' AND (f.type <> 'text' OR f.atom NOT IN ('to', 'cc', 'bcc'))
                    OR f.key = 'address_type' AND (f.type <> 'text' OR length(f.atom) > 20 OR f.atom GLOB '*[^A-Za-z0-9-]*' OR f.atom = '')
                )
            )
    );
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: entry_id must be 32 hexadecimal digits')
    WHERE NEW.entry_id IS NOT NULL
        AND (typeof(NEW.entry_id) <> 'text' OR length(NEW.entry_id) <> 32 OR lower(NEW.entry_id) GLOB '*[^0-9a-f]*');
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: send_at and expires_at must be ISO 8601 times or seconds since 1970')
    WHERE (NEW.send_at IS NOT NULL AND typeof(NEW.send_at) NOT IN ('integer', 'real') AND (typeof(NEW.send_at) <> 'text' OR NEW.send_at NOT GLOB '[0-9][0-9][0-9][0-9]-*' OR julianday(NEW.send_at) IS NULL))
        OR (NEW.expires_at IS NOT NULL AND typeof(NEW.expires_at) NOT IN ('integer', 'real') AND (typeof(NEW.expires_at) <> 'text' OR NEW.expires_at NOT GLOB '[0-9][0-9][0-9][0-9]-*' OR julianday(NEW.expires_at) IS NULL));
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: priority must be high, normal or low')
    WHERE NEW.priority IS NOT NULL AND NEW.priority NOT IN ('high', 'normal', 'low');
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: hold must be 0 or 1') WHERE NEW.hold IS NOT NULL AND NEW.hold NOT IN (0, 1);
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: key must be text that is not empty')
    WHERE NEW.key IS NOT NULL AND (typeof(NEW.key) <> 'text' OR NEW.key = '');
    SELECT RAISE(ABORT, 'MAPI_E_CORRUPT_DATA: delete_after_submit must be 0 or 1, sent_folder text')
    WHERE (NEW.delete_after_submit IS NOT NULL AND NEW.delete_after_submit NOT IN (0, 1))
        OR (NEW.sent_folder IS NOT NULL AND typeof(NEW.sent_folder) <> 'text');
    -- the same key again: nothing is stored; another content under it is refused
    SELECT RAISE(ABORT, 'MAPI_E_COLLISION: the key was used before, for another sender, content or recipients')
    FROM spoold_key k JOIN spoold_message m ON m.id = k.message_id
    WHERE k.key = NEW.key AND (
        m.sender <> NEW.sender
        OR EXISTS (
            SELECT coalesce(f.atom, e.atom) FROM json_each(NEW.recipients) e
            LEFT JOIN json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f ON f.key = 'address'
            EXCEPT SELECT r.address FROM spoold_recipient r WHERE r.message_id = m.id
        )
        OR EXISTS (
            SELECT r.address FROM spoold_recipient r WHERE r.message_id = m.id
            EXCEPT SELECT coalesce(f.atom, e.atom) FROM json_each(NEW.recipients) e
            LEFT JOIN json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f ON f.key = 'address'
        )
        OR m.message_size <> length(CAST(NEW.content AS BLOB))
        OR EXISTS (
            SELECT 1 FROM spoold_content c
            WHERE c.message_id = m.id AND c.data <> substr(CAST(NEW.content AS BLOB), 1 + 262144 * c.seq, 262144)
        )
    );
    SELECT RAISE(IGNORE) FROM spoold_key k WHERE k.key = NEW.key;
    SELECT RAISE(ABORT, 'MAPI_E_SUBMITTED: a message with this entry_id was stored before')
    FROM spoold_message m WHERE m.entry_id = lower(NEW.entry_id);

    INSERT INTO spoold_message (entry_id, stage, message_flags, sender, message_size, priority, client_submit_time, deferred_send_time, expires_time, key, sent_folder, delete_after_submit)
    VALUES (
        coalesce(lower(NEW.entry_id), lower(
            printf('%012x', CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
            || '7' || substr(hex(randomblob(2)), 2) || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(8)), 2)
        )),
        'submitted',
        8 | 32 | 2 | 1,
        NEW.sender,
        length(CAST(NEW.content AS BLOB)),
        CASE NEW.priority WHEN 'high' THEN 1 WHEN 'low' THEN -1 ELSE 0 END,
        CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER),
        CASE WHEN typeof(NEW.send_at) = 'text' THEN CAST(round((julianday(NEW.send_at) - 2440587.5) * 86400000) AS INTEGER) ELSE CAST(NEW.send_at * 1000 AS INTEGER) END,
        CASE WHEN typeof(NEW.expires_at) = 'text' THEN CAST(round((julianday(NEW.expires_at) - 2440587.5) * 86400000) AS INTEGER) ELSE CAST(NEW.expires_at * 1000 AS INTEGER) END,
        NEW.key,
        NEW.sent_folder,
        coalesce(NEW.delete_after_submit, 0)
    );
    INSERT INTO spoold_recipient (message_id, kind, address, address_type, state, priority, changed)
    SELECT
        m.id,
        coalesce((SELECT f.atom FROM json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f WHERE f.key = 'type'), 'to'),
        CASE WHEN e.type = 'text' THEN e.atom ELSE (SELECT f.atom FROM json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f WHERE f.key = 'address') END,
        coalesce((SELECT f.atom FROM json_each(CASE e.type WHEN 'object' THEN e.value ELSE '{}' END) f WHERE f.key = 'address_type'), 'SMTP'),
        CASE WHEN NEW.hold THEN 'held' ELSE 'queued' END,
        m.priority,
        m.client_submit_time
    FROM (SELECT * FROM spoold_message ORDER BY id DESC LIMIT 1) m, json_each(NEW.recipients) e
    ORDER BY e.id;
    INSERT INTO spoold_content (message_id, seq, data)
    SELECT m.id, n.seq, substr(CAST(NEW.content AS BLOB), 1 + 262144 * n.seq, 262144)
    FROM (SELECT id FROM spoold_message ORDER BY id DESC LIMIT 1) m, (
        WITH RECURSIVE chunk (seq) AS (
            SELECT 0 UNION ALL SELECT seq + 1 FROM chunk WHERE (seq + 1) * 262144 < length(CAST(NEW.content AS BLOB))
        )
        SELECT seq FROM chunk
    ) n;
    INSERT INTO spoold_key (key, entry_id, message_id, created)
    SELECT NEW.key, m.entry_id, m.id, m.client_submit_time
    FROM (SELECT * FROM spoold_message ORDER BY id DESC LIMIT 1) m WHERE NEW.key IS NOT NULL;
END;

-- All or nothing; spoold abort does partial ones.
CREATE TRIGGER spoold_outbox_delete INSTEAD OF DELETE ON spoold_outbox
BEGIN
    SELECT RAISE(ABORT, 'MAPI_E_UNABLE_TO_ABORT: a recipient is locked, in doubt or sent; spoold abort withdraws what is left')
    FROM spoold_message m JOIN spoold_recipient r ON r.message_id = m.id
    WHERE m.entry_id = OLD.entry_id AND (r.in_doubt OR r.state IN ('locked', 'in_doubt', 'sent'));
    UPDATE spoold_recipient
    SET state = 'aborted', abort_wish = 1, token = NULL, changed = CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)
    WHERE message_id = (SELECT id FROM spoold_message WHERE entry_id = OLD.entry_id) AND state IN ('queued', 'held', 'claimed');
END;
