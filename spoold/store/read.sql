-- What anybody reads: one message, the outgoing queue, the timeline, the counts. None of it walks through the history.

-- name: message
-- The properties of one message.
SELECT m.id, m.entry_id, s.state, m.message_flags, s.submit_flags, m.sender, m.subject, m.message_size,
    m.client_submit_time, m.deferred_send_time, m.expires_time, m.priority, m.key, m.sent_folder
FROM spoold_message m CROSS JOIN spoold_status s ON s.entry_id = m.entry_id
WHERE m.entry_id = ? AND m.stage <> 'incoming'

-- name: recipients
-- The recipients of one message, in its order.
SELECT address, address_type, kind, state, responsibility, transport, destination, attempts,
    CASE WHEN state IN ('queued', 'held') THEN due END, in_doubt, reply_code, reply_enhanced, reply_text
FROM spoold_recipient WHERE message_id = ? ORDER BY id

-- name: timeline
-- The events of one message.
SELECT seq, at, entry_id, kind, address, attempt, transport, destination, reply_code, reply_enhanced, reply_text
FROM spoold_event WHERE message_id = ? ORDER BY seq

-- name: newest_of
-- What the newest part of the feed has about an entry id: the message itself may be deleted.
SELECT seq, at, entry_id, kind, address, attempt, transport, destination, reply_code, reply_enhanced, reply_text
FROM spoold_event
WHERE seq > (SELECT coalesce(max(seq), 0) FROM spoold_event) - :newest AND entry_id = :entry_id ORDER BY seq

-- name: events
-- The change feed.
SELECT seq, at, entry_id, kind, address, attempt, transport, destination, reply_code, reply_enhanced, reply_text
FROM spoold_event WHERE seq > ? ORDER BY seq LIMIT ?

-- name: outgoing
-- The outgoing queue, in order of submission, from a place on.
SELECT m.client_submit_time AS place, m.id, m.entry_id, s.state, m.message_flags, s.submit_flags, m.sender, m.subject, m.message_size,
    m.client_submit_time, m.deferred_send_time, m.expires_time, m.priority, s.display_to, s.display_cc, s.display_bcc
FROM spoold_message m INDEXED BY spoold_message_outgoing CROSS JOIN spoold_status s ON s.entry_id = m.entry_id
WHERE m.stage IN ('submitted', 'ready') AND (m.client_submit_time, m.id) > (:place, :id)
    AND (:state IS NULL OR s.state = :state)
    AND (:sender IS NULL OR m.sender = :sender)
    AND (:destination IS NULL OR EXISTS (
        SELECT 1 FROM spoold_recipient r WHERE r.message_id = m.id
            AND (r.destination = :destination OR lower(substr(r.address, -1 - length(:destination))) = '@' || lower(:destination))
    ))
ORDER BY m.client_submit_time, m.id LIMIT :limit

-- name: finished
-- The finished messages in one state, in the order in which they ended, from a place on.
SELECT m.finished_time AS place, m.id, m.entry_id, s.state, m.message_flags, s.submit_flags, m.sender, m.subject, m.message_size,
    m.client_submit_time, m.deferred_send_time, m.expires_time, m.priority, s.display_to, s.display_cc, s.display_bcc
FROM spoold_message m INDEXED BY spoold_message_finished CROSS JOIN spoold_status s ON s.entry_id = m.entry_id
WHERE m.stage = 'finished' AND m.final_state = :state AND (m.finished_time, m.id) > (:place, :id)
    AND (:sender IS NULL OR m.sender = :sender)
    AND (:destination IS NULL OR EXISTS (
        SELECT 1 FROM spoold_recipient r WHERE r.message_id = m.id
            AND (r.destination = :destination OR lower(substr(r.address, -1 - length(:destination))) = '@' || lower(:destination))
    ))
ORDER BY m.finished_time, m.id LIMIT :limit

-- name: everything
-- All messages, drafts and finished ones too, in the order in which they were stored, from a place on.
SELECT 0 AS place, m.id, m.entry_id, s.state, m.message_flags, s.submit_flags, m.sender, m.subject, m.message_size,
    m.client_submit_time, m.deferred_send_time, m.expires_time, m.priority, s.display_to, s.display_cc, s.display_bcc
FROM spoold_message m CROSS JOIN spoold_status s ON s.entry_id = m.entry_id
WHERE m.stage <> 'incoming' AND m.id > :id
    AND (:state IS NULL OR s.state = :state)
    AND (:sender IS NULL OR m.sender = :sender)
    AND (:destination IS NULL OR EXISTS (
        SELECT 1 FROM spoold_recipient r WHERE r.message_id = m.id
            AND (r.destination = :destination OR lower(substr(r.address, -1 - length(:destination))) = '@' || lower(:destination))
    ))
ORDER BY m.id LIMIT :limit

-- name: chunk
-- One piece of content.
SELECT data FROM spoold_content WHERE message_id = ? AND seq = ?

-- name: settled
-- Whether a message has an end.
SELECT stage = 'finished' FROM spoold_message WHERE id = ?

-- name: pulse
-- A value that changes with every commit on the queue, other connections' or our own.
SELECT data_version, total_changes() FROM pragma_data_version

-- name: message_id
-- The number under which a message's parts are stored.
SELECT id FROM spoold_message WHERE entry_id = ? AND stage <> 'incoming'

-- name: outgoing_counts
-- The outgoing queue by the messages' state: messages, and recipients in each state.
SELECT state, count(*), sum(queued), sum(held), sum(claimed), sum(locked), sum(sent), sum(failed), sum(aborted), sum(in_doubt), sum(expanded)
FROM (
    SELECT
        CASE WHEN sum(r.state = 'locked') THEN 'locked' WHEN sum(r.state IN ('queued', 'claimed')) THEN 'queued' ELSE 'held' END AS state,
        sum(r.state = 'queued') AS queued, sum(r.state = 'held') AS held, sum(r.state = 'claimed') AS claimed,
        sum(r.state = 'locked') AS locked, sum(r.state = 'sent') AS sent, sum(r.state = 'failed') AS failed,
        sum(r.state = 'aborted') AS aborted, sum(r.state = 'in_doubt') AS in_doubt, sum(r.state = 'expanded') AS expanded
    FROM spoold_message m INDEXED BY spoold_message_outgoing CROSS JOIN spoold_recipient r ON r.message_id = m.id
    WHERE m.stage IN ('submitted', 'ready') GROUP BY m.id
) GROUP BY state

-- name: finished_count
-- How many finished messages are in a state, counted up to a bound.
SELECT count(*) FROM (SELECT 1 FROM spoold_message WHERE stage = 'finished' AND final_state = ? LIMIT ?)

-- name: oldest
-- When the oldest unfinished message was submitted.
SELECT client_submit_time FROM spoold_message WHERE stage IN ('submitted', 'ready') ORDER BY client_submit_time LIMIT 1

-- name: doubtful
-- How many recipients are marked in doubt, finished ones too.
SELECT count(*) FROM spoold_recipient WHERE in_doubt

-- name: spoolers
-- The spoolers that say that they are alive.
SELECT id, host, pid, started, mark FROM spoold_spooler WHERE ended IS NULL ORDER BY id

-- name: transports
-- The transports of the spoolers that are alive.
SELECT t.name, t.spooler, t.state, t.reason, t.since FROM spoold_transport t
JOIN spoold_spooler s ON s.id = t.spooler WHERE s.ended IS NULL ORDER BY t.name, t.spooler
