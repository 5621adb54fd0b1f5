-- What is done to many messages at once, by sender, destination or transport, in bounded transactions.

-- name: matching
-- Unfinished messages in order of submission, from a place on, with how many recipients each has; no condition: all.
SELECT m.client_submit_time, m.id, m.entry_id, (SELECT count(*) FROM spoold_recipient r WHERE r.message_id = m.id)
FROM spoold_message m INDEXED BY spoold_message_outgoing
WHERE m.stage IN ('submitted', 'ready') AND (m.client_submit_time, m.id) > (:place, :id)
    AND (:sender IS NULL OR m.sender = :sender)
    AND (:due IS NULL OR m.deferred_send_time IS NULL OR m.deferred_send_time <= :due)
    AND (:destination IS NULL AND :transport IS NULL OR EXISTS (
        SELECT 1 FROM spoold_recipient r
        WHERE r.message_id = m.id AND r.state IN ('queued', 'held', 'claimed', 'locked')
            AND (:destination IS NULL OR r.destination = :destination OR lower(substr(r.address, -1 - length(:destination))) = '@' || lower(:destination))
            AND (:transport IS NULL OR r.transport = :transport)
    ))
ORDER BY m.client_submit_time, m.id LIMIT :limit

-- name: of
-- The recipients of these messages that match.
SELECT id FROM spoold_recipient
WHERE message_id IN (SELECT value FROM json_each(:messages))
    AND (:destination IS NULL OR destination = :destination OR lower(substr(address, -1 - length(:destination))) = '@' || lower(:destination))
    AND (:transport IS NULL OR transport = :transport)

-- name: abort
-- Withdraw what no server can have taken; what is marked in doubt gets no further attempt, but is not called aborted.
UPDATE spoold_recipient
SET state = CASE WHEN in_doubt THEN 'in_doubt' ELSE 'aborted' END, abort_wish = 1, token = NULL, changed = :now
WHERE id IN (SELECT value FROM json_each(:recipients)) AND state IN ('queued', 'held', 'claimed')
RETURNING id

-- name: wish_abort
-- Keep the wish with what is locked at this moment.
UPDATE spoold_recipient SET state = 'locked', abort_wish = 1, changed = :now
WHERE id IN (SELECT value FROM json_each(:recipients)) AND state = 'locked' AND abort_wish = 0

-- name: states
-- What an abort found, in each message's order.
SELECT message_id, id, address, state FROM spoold_recipient
WHERE id IN (SELECT value FROM json_each(:recipients)) ORDER BY message_id, id

-- name: hold
-- Keep recipients from being claimed; a claim is overridden like by an abort.
UPDATE spoold_recipient SET state = 'held', token = NULL, changed = :now
WHERE id IN (SELECT value FROM json_each(:recipients)) AND state IN ('queued', 'claimed')
RETURNING message_id

-- name: release
-- Let held recipients go on, by way of the router.
UPDATE spoold_recipient SET state = 'queued', destination = NULL, changed = :now
WHERE id IN (SELECT value FROM json_each(:recipients)) AND state = 'held'
RETURNING message_id

-- name: flush
-- Make recipients due now, by way of the router.
UPDATE spoold_recipient SET due = min(due, :now), destination = NULL
WHERE id IN (SELECT value FROM json_each(:recipients)) AND state = 'queued' AND due IS NOT NULL
RETURNING message_id

-- name: record_flush
-- The spoolers read this and give destinations that they let wait another chance.
INSERT INTO spoold_event (at, message_id, entry_id, kind)
SELECT :now, id, entry_id, 'flushed' FROM spoold_message WHERE id IN (SELECT value FROM json_each(:messages)) ORDER BY id
