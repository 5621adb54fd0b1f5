-- What a client's process writes: submit, abort, hold, release, flush.

-- name: find_key
-- Who has the idempotency key, and what the message was, if it is still there.
SELECT k.entry_id, m.id, m.sender, m.message_size, m.digest
FROM spoold_key k LEFT JOIN spoold_message m ON m.id = k.message_id
WHERE k.key = ?

-- name: addresses
-- To whom a message went.
SELECT address_type, address FROM spoold_recipient WHERE message_id = ? AND state <> 'expanded'

-- name: insert_key
-- Remember the key in the transaction that stores its message.
INSERT INTO spoold_key (key, entry_id, message_id, created) VALUES (?, ?, ?, ?)

-- name: insert_message
-- Store a message in the given stage.
INSERT INTO spoold_message (
    entry_id, stage, message_flags, sender, subject, message_size, digest, eight_bit, utf8, priority,
    client_submit_time, deferred_send_time, expires_time, key, sent_folder, delete_after_submit
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING id

-- name: insert_recipient
-- Add a recipient to a message.
INSERT INTO spoold_recipient (message_id, kind, address, address_type, state, priority, due, changed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_chunk
-- Add the next piece of content, at most 256 KiB.
INSERT INTO spoold_content (message_id, seq, data) VALUES (?, ?, ?)

-- name: flip_incoming
-- Make a message visible whose content came in by several transactions. No row: it was taken for abandoned.
UPDATE spoold_message SET stage = 'ready', message_flags = message_flags | 4, client_submit_time = ?
WHERE id = ? AND stage = 'incoming'
RETURNING id

-- name: drop_incoming_content
-- Forget the content of a message that never became visible.
DELETE FROM spoold_content WHERE message_id = ? AND EXISTS (SELECT 1 FROM spoold_message m WHERE m.id = message_id AND m.stage = 'incoming')

-- name: drop_incoming
-- Forget a message that never became visible.
DELETE FROM spoold_message WHERE id = ? AND stage = 'incoming'

-- name: doorbells
-- The marks of the spoolers that are alive, to ring after the commit.
SELECT mark FROM spoold_spooler WHERE ended IS NULL

-- name: find_message
-- A message by its entry id.
SELECT id, stage FROM spoold_message WHERE entry_id = ? AND stage <> 'incoming'

-- name: abort
-- Withdraw what no server can have taken; what is marked in doubt gets no further attempt, but is not called aborted.
UPDATE spoold_recipient
SET state = CASE WHEN in_doubt THEN 'in_doubt' ELSE 'aborted' END, abort_wish = 1, token = NULL, changed = ?
WHERE message_id = ? AND state IN ('queued', 'held', 'claimed')
RETURNING id, state

-- name: wish_abort
-- Keep the wish with what is locked at this moment.
UPDATE spoold_recipient SET state = 'locked', abort_wish = 1, changed = ?
WHERE message_id = ? AND state = 'locked' AND abort_wish = 0

-- name: recipient_states
-- What an abort found, in the message's order.
SELECT id, address, state FROM spoold_recipient WHERE message_id = ? ORDER BY id

-- name: hold
-- Keep recipients from being claimed; a claim is overridden like by an abort.
UPDATE spoold_recipient SET state = 'held', token = NULL, changed = ?
WHERE message_id = ? AND state IN ('queued', 'claimed')
RETURNING id

-- name: release
-- Let held recipients go on, by way of the router.
UPDATE spoold_recipient SET state = 'queued', destination = NULL, changed = ?
WHERE message_id = ? AND state = 'held'
RETURNING id

-- name: flush
-- Make recipients due now, by way of the router.
UPDATE spoold_recipient SET due = min(due, ?), destination = NULL
WHERE message_id = ? AND state = 'queued' AND due IS NOT NULL
RETURNING id

-- name: record_flush
-- The spoolers read this and give destinations that they let wait another chance.
INSERT INTO spoold_event (at, message_id, entry_id, kind) SELECT ?, id, entry_id, 'flushed' FROM spoold_message WHERE id = ?
