-- What a spooler writes: claims, locks, results, intake, and the recovery of what a dead spooler had.

-- name: begin_incarnation
-- A spooler starts; the id is the upper half of the tokens of all its claims.
INSERT INTO spoold_spooler (host, pid, mark, started) VALUES (?, ?, ?, ?) RETURNING id

-- name: beat
-- The spooler could commit. No row: it was declared dead.
UPDATE spoold_spooler SET beat = beat + 1 WHERE id = ? AND ended IS NULL RETURNING beat

-- name: end_incarnation
-- A spooler has ended, or is declared dead.
UPDATE spoold_spooler SET ended = ?, end_reason = ? WHERE id = ? AND ended IS NULL RETURNING id

-- name: other_incarnations
-- Who else is there.
SELECT id, host, pid, mark, beat FROM spoold_spooler WHERE ended IS NULL AND id <> ?

-- name: ready
-- What is due at a destination (NULL: not yet routed), by priority and then in order of submission.
WITH ready (id) AS (
    SELECT * FROM (SELECT id FROM spoold_recipient WHERE state = 'queued' AND destination IS :destination AND priority = 1 AND due <= :now ORDER BY due, id LIMIT :limit)
    UNION ALL
    SELECT * FROM (SELECT id FROM spoold_recipient WHERE state = 'queued' AND destination IS :destination AND priority = 0 AND due <= :now ORDER BY due, id LIMIT :limit)
    UNION ALL
    SELECT * FROM (SELECT id FROM spoold_recipient WHERE state = 'queued' AND destination IS :destination AND priority = -1 AND due <= :now ORDER BY due, id LIMIT :limit)
    LIMIT :limit
)
SELECT r.id, r.message_id, r.address, r.address_type, r.attempts, r.route_position, r.in_doubt,
    m.entry_id, m.sender, m.message_size, m.digest, m.eight_bit, m.utf8, max(m.client_submit_time, coalesce(m.deferred_send_time, 0)) AS begun, m.expires_time,
    CASE WHEN m.message_size <= :prefetch THEN (SELECT data FROM spoold_content c WHERE c.message_id = m.id AND c.seq = 0) END
FROM ready
CROSS JOIN spoold_recipient r ON r.id = ready.id
CROSS JOIN spoold_message m ON m.id = r.message_id

-- name: claim
-- A leased right to work on recipients; an abort overrides it.
UPDATE spoold_recipient SET state = 'claimed', token = ? WHERE id IN (SELECT value FROM json_each(?)) AND state = 'queued'

-- name: lock
-- The point of no return: compare and set.
UPDATE spoold_recipient SET state = 'locked'
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'claimed' AND token = ?
RETURNING id

-- name: unlock
-- All or nothing: a delivery of which one recipient was withdrawn is not locked at all.
UPDATE spoold_recipient SET state = 'claimed' WHERE id IN (SELECT value FROM json_each(?)) AND state = 'locked'

-- name: situations
-- What the transitions depend on, of the recipients that have a result.
SELECT id, state, token, in_doubt, abort_wish FROM spoold_recipient WHERE id IN (SELECT value FROM json_each(?))

-- name: settle
-- Write a transition. Its precondition was read in this same transaction.
UPDATE spoold_recipient SET
    state = ?1, token = NULL, in_doubt = ?2, abort_wish = ?3, attempts = attempts + ?4, due = coalesce(?5, due),
    route_position = coalesce(?6, route_position), responsibility = ?7,
    transport = coalesce(?8, transport), destination = ?9,
    -- the three parts of one reply, or those of the one before
    reply_code = CASE WHEN ?12 IS NULL THEN reply_code ELSE ?10 END,
    reply_enhanced = CASE WHEN ?12 IS NULL THEN reply_enhanced ELSE ?11 END,
    reply_text = coalesce(?12, reply_text),
    changed = ?13
WHERE id = ?14

-- name: next_due
-- When the next recipient of a destination is due.
SELECT min(due) FROM (
    SELECT min(due) AS due FROM spoold_recipient WHERE state = 'queued' AND destination IS :destination AND priority = 1 AND due IS NOT NULL
    UNION ALL
    SELECT min(due) FROM spoold_recipient WHERE state = 'queued' AND destination IS :destination AND priority = 0 AND due IS NOT NULL
    UNION ALL
    SELECT min(due) FROM spoold_recipient WHERE state = 'queued' AND destination IS :destination AND priority = -1 AND due IS NOT NULL
)

-- name: destinations
-- Which destinations have queued recipients, by one look into the index for each.
WITH RECURSIVE known (destination) AS (
    SELECT min(destination) FROM spoold_recipient WHERE state = 'queued' AND due IS NOT NULL AND destination IS NOT NULL
    UNION ALL
    SELECT (SELECT min(r.destination) FROM spoold_recipient r WHERE r.state = 'queued' AND r.due IS NOT NULL AND r.destination > known.destination)
    FROM known WHERE known.destination IS NOT NULL
)
SELECT destination FROM known WHERE destination IS NOT NULL

-- name: look
-- Where the timeline ends now, and whether anything waits for its check.
SELECT (SELECT coalesce(max(seq), 0) FROM spoold_event),
    EXISTS (SELECT 1 FROM spoold_message WHERE stage = 'submitted' AND intake_token IS NULL)

-- name: withdrawn_since
-- Recipients that were taken out of a spooler's hands, for it to break off early.
SELECT recipient_id FROM spoold_event WHERE seq > ? AND kind IN ('aborted', 'in_doubt', 'held') ORDER BY seq

-- name: flushed_since
-- Whether somebody asked for another try.
SELECT 1 FROM spoold_event WHERE seq > ? AND kind = 'flushed' LIMIT 1

-- name: take_unchecked
-- Claim messages that were placed by SQL, for their check.
UPDATE spoold_message SET intake_token = :token
WHERE id IN (SELECT id FROM spoold_message WHERE stage = 'submitted' AND intake_token IS NULL ORDER BY id LIMIT :limit)
RETURNING id, entry_id, sender, message_size, client_submit_time, deferred_send_time

-- name: unchecked_recipients
-- The recipients of a message that is being checked.
SELECT id, kind, address, address_type FROM spoold_recipient WHERE message_id = ? ORDER BY id LIMIT ?

-- name: accept_checked
-- The message is fit to be sent: MSGFLAG_SUBMIT. No row: it was aborted meanwhile, or another spooler has it.
UPDATE spoold_message SET stage = 'ready', message_flags = message_flags | 4, intake_token = NULL,
    subject = ?, digest = ?, eight_bit = ?, utf8 = ?
WHERE id = ? AND stage = 'submitted' AND intake_token = ?
RETURNING id

-- name: drop_duplicates
-- One copy for each address.
DELETE FROM spoold_recipient WHERE message_id = :message AND id NOT IN (
    SELECT min(id) FROM spoold_recipient WHERE message_id = :message GROUP BY address_type, address
)

-- name: make_due
-- From now on it can be claimed.
UPDATE spoold_recipient SET due = ? WHERE message_id = ? AND due IS NULL

-- name: still_checking
-- Whether the check's result may still be written.
SELECT 1 FROM spoold_message WHERE id = ? AND stage = 'submitted' AND intake_token = ?

-- name: refuse
-- The message cannot be sent: all its recipients fail, with the reason.
UPDATE spoold_recipient SET state = 'failed', responsibility = 1, reply_code = NULL, reply_enhanced = ?, reply_text = ?, changed = ?
WHERE message_id = ? AND state IN ('queued', 'held')

-- name: recover
-- What a dead spooler had: claims are free again; what it had locked is marked, and goes by the wish or the policy.
UPDATE spoold_recipient SET
    state = CASE
        WHEN state = 'claimed' THEN 'queued' WHEN abort_wish THEN 'in_doubt' WHEN :hold THEN 'held' ELSE 'queued'
    END,
    in_doubt = in_doubt OR state = 'locked',
    attempts = attempts + (state = 'locked'),
    reply_code = CASE WHEN state = 'locked' THEN NULL ELSE reply_code END,
    reply_enhanced = CASE WHEN state = 'locked' THEN '4.4.2' ELSE reply_enhanced END,
    reply_text = CASE WHEN state = 'locked' THEN 'the spooler ended while the server was taking it over' ELSE reply_text END,
    token = NULL, destination = NULL, changed = :now
WHERE token BETWEEN :first AND :last AND state IN ('claimed', 'locked')
RETURNING id, state, in_doubt

-- name: hold_restored
-- The queue comes from a backup: everything unfinished may have been delivered since.
UPDATE spoold_recipient SET state = 'held', in_doubt = 1, token = NULL, abort_wish = 0, destination = NULL, changed = ?
WHERE state IN ('queued', 'held', 'claimed', 'locked')
RETURNING id

-- name: recover_intake
-- Messages that a dead spooler was checking.
UPDATE spoold_message SET intake_token = NULL WHERE stage = 'submitted' AND intake_token = ?

-- name: expired
-- Queued recipients whose time is over: by the submitter's wish, or given up.
SELECT r.id FROM spoold_message m JOIN spoold_recipient r ON r.message_id = m.id
WHERE m.stage = 'ready' AND m.expires_time <= :now AND r.state = 'queued'
UNION
SELECT r.id FROM (
    SELECT id FROM spoold_message WHERE stage IN ('submitted', 'ready') AND client_submit_time <= :given_up
        AND coalesce(deferred_send_time, 0) <= :given_up ORDER BY client_submit_time, id LIMIT :limit
) m JOIN spoold_recipient r ON r.message_id = m.id
WHERE r.state = 'queued' AND r.due IS NOT NULL AND r.due <= :now
LIMIT :limit

-- name: expire
-- Fail one of them, keeping what the last attempt was told.
UPDATE spoold_recipient SET state = 'failed', responsibility = 1, changed = ?,
    reply_enhanced = coalesce(reply_enhanced, '4.4.7'),
    reply_text = 'delivery time expired' || coalesce('; last reply: ' || reply_text, '')
WHERE id = ? AND state = 'queued'

-- name: pull_in
-- A retry further away than the longest back-off: the clock was wrong when it was set.
UPDATE spoold_recipient SET due = :now WHERE state = 'queued' AND attempts > 0 AND due > :latest

-- name: forget_routes
-- Let everything that waits go by the router again, in bounded batches.
UPDATE spoold_recipient SET destination = NULL, route_position = 0 WHERE id IN (
    SELECT id FROM spoold_recipient WHERE state = 'queued' AND due IS NOT NULL AND destination IS NOT NULL LIMIT ?
)
RETURNING id

-- name: abandoned
-- Messages whose writer ended before they became visible.
SELECT id FROM spoold_message WHERE stage = 'incoming' AND client_submit_time < ? LIMIT 10

-- name: transport_state
-- What `spoold status` shows of a transport.
INSERT OR REPLACE INTO spoold_transport (name, spooler, state, reason, since) VALUES (?, ?, ?, ?, ?)

-- name: forget_transports
-- The rows of spoolers that have ended.
DELETE FROM spoold_transport WHERE spooler NOT IN (SELECT id FROM spoold_spooler WHERE ended IS NULL)

-- name: chunk
-- One piece of content.
SELECT data FROM spoold_content WHERE message_id = ? AND seq = ?
