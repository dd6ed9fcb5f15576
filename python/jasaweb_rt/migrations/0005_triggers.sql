-- What turns any committed change of public.real_time_notifications, by whatever program, into work for the relay.
--
-- The functions run as their owner and with names in full: a foreign program needs rights on the guide's table only,
-- and its search_path does not matter. Counter rows are locked in the order of user ids, or two statements could wait
-- for each other. A pooled connection keeps the plan that was made for its first call, of a single row perhaps; so
-- nested loops, quadratic in bulk, are off, and where an index is to be used, nothing else is left to the planner.
-- Where what is off cannot be avoided, servers before 18 take the plan for so dear that they compile it, each time; so
-- JIT is off, too.

-- The relay holds this lock ("jasaweb", 1) while it sleeps, and cannot take it while a writer that shares it is open:
-- it is awake and will look, or it is woken. A plain NOTIFY in each transaction would cost a third of the rate.
create function jasaweb_rt.wake_relay() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if not pg_try_advisory_xact_lock_shared(7665534903213449729) then
    notify jasaweb_rt;
  end if;
end $$;

create function jasaweb_rt.notifications_inserted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
set jit = off set enable_nestloop = off as $$
begin
  with arrived as (
    select id, user_id, read_at, row_number() over () as n from added
  ), head as (
    insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
    select user_id, count(*), count(*) filter (where read_at is null), 1 from arrived group by user_id order by user_id
    on conflict (user_id) do update
      set head_seq = c.head_seq + excluded.head_seq, unread = c.unread + excluded.unread, rev = c.rev + 1
    returning user_id, head_seq
  ), numbered as (
    insert into jasaweb_rt.feed (user_id, seq, notification_id)
    select a.user_id,
           head.head_seq - count(*) over (partition by a.user_id)
             + row_number() over (partition by a.user_id order by a.n),
           a.id
    from arrived a join head using (user_id)
    returning user_id, seq
  )
  insert into jasaweb_rt.outbox (kind, user_id, seq)
  select 'notification', user_id, seq from numbered order by user_id, seq;
  if found then
    perform jasaweb_rt.wake_relay();
  end if;
  return null;
end $$;

-- Read, unread, or moved: a row whose id or user changed is gone from the one and arrives at the other.
-- `jasaweb_rt.read_up_to`, set by a statement that marks all of a user's up to a seq, spares the list of ids; it holds
-- for one statement.
create function jasaweb_rt.notifications_updated() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
set jit = off set enable_nestloop = off set enable_seqscan = off as $$
declare
  up_to bigint := nullif(current_setting('jasaweb_rt.read_up_to', true), '')::bigint;
begin
  if up_to is not null then
    perform set_config('jasaweb_rt.read_up_to', '', true);
  end if;

  with change as (
    select id, user_id, a.n, b.type is null as arrived, a.type is null as gone,
           b.type is not null and b.read_at is null and a.read_at is not null as turned_read,
           (a.type is not null and a.read_at is null)::int - (b.type is not null and b.read_at is null)::int as moved
    from before b full join (select *, row_number() over () as n from after) a using (id, user_id)
    where b.type is null or a.type is null or (b.read_at is null) <> (a.read_at is null)
  ), head as (
    insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
    select user_id, count(*) filter (where arrived), sum(moved), 1 from change
    group by user_id having bool_or(arrived or turned_read) or sum(moved) <> 0 order by user_id
    on conflict (user_id) do update
      set head_seq = c.head_seq + excluded.head_seq, unread = greatest(c.unread + excluded.unread, 0), rev = c.rev + 1
    returning user_id, head_seq
  ), forgotten as (
    delete from jasaweb_rt.feed where ctid = any (array(
      select entry.ctid from change c cross join lateral (
        select f.ctid from jasaweb_rt.feed f where f.notification_id = c.id and f.user_id = c.user_id offset 0
      ) entry where c.gone
    ))
  ), numbered as (
    insert into jasaweb_rt.feed (user_id, seq, notification_id)
    select c.user_id,
           head.head_seq - count(*) over (partition by c.user_id)
             + row_number() over (partition by c.user_id order by c.n),
           c.id
    from change c join head using (user_id) where c.arrived
    returning user_id, seq
  ), event (kind, user_id, seq, detail) as (
    select 'notification', user_id, seq, null::jsonb from numbered
    union all
    select 'read', user_id, null, case when up_to is null
        then jsonb_build_object('ids', jsonb_agg(id order by ordinal)) else jsonb_build_object('upTo', up_to) end
    from (
      select user_id, id, row_number() over (partition by user_id order by n) as ordinal from change where turned_read
    ) t
    group by user_id, case when up_to is null then (ordinal - 1) / 500 end
    union all
    select 'read', user_id, null, '{"ids": []}' from change
    group by user_id having not bool_or(turned_read or arrived) and sum(moved) <> 0
  )
  insert into jasaweb_rt.outbox (kind, user_id, seq, detail)
  select kind, user_id, seq, detail from event order by user_id, kind, seq;
  if found then
    perform jasaweb_rt.wake_relay();
  end if;
  return null;
end $$;

create function jasaweb_rt.notifications_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
set jit = off set enable_nestloop = off set enable_seqscan = off as $$
begin
  with forgotten as (
    delete from jasaweb_rt.feed where ctid = any (array(
      select entry.ctid from removed r cross join lateral (
        select f.ctid from jasaweb_rt.feed f where f.notification_id = r.id and f.user_id = r.user_id offset 0
      ) entry
    ))
  ), moved as (
    insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
    select user_id, 0, -count(*), 1 from removed where read_at is null group by user_id order by user_id
    on conflict (user_id) do update set unread = greatest(c.unread + excluded.unread, 0), rev = c.rev + 1
    returning user_id
  )
  insert into jasaweb_rt.outbox (kind, user_id, detail)
  select 'read', user_id, '{"ids": []}' from moved order by user_id;
  if found then
    perform jasaweb_rt.wake_relay();
  end if;
  return null;
end $$;

-- The feed is emptied by DELETE: a TRUNCATE of it would wait for readers, who in turn wait for the table that is being
-- truncated.
create function jasaweb_rt.notifications_truncated() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  delete from jasaweb_rt.feed;
  with moved as (
    update jasaweb_rt.counters set unread = 0, rev = rev + 1 where unread <> 0 returning user_id
  )
  insert into jasaweb_rt.outbox (kind, user_id, detail)
  select 'read', user_id, '{"ids": []}' from moved order by user_id;
  if found then
    perform jasaweb_rt.wake_relay();
  end if;
  return null;
end $$;

revoke all on all functions in schema jasaweb_rt from public;

-- Rows that were there before us: numbered in the order in which they came, counted, and not pushed. Whoever writes
-- meanwhile waits for this lock, and then meets the triggers.
lock table public.real_time_notifications in share row exclusive mode;

insert into jasaweb_rt.counters (user_id, head_seq, unread, rev)
select user_id, count(*), count(*) filter (where read_at is null), 1
from public.real_time_notifications group by user_id;

insert into jasaweb_rt.feed (user_id, seq, notification_id)
select user_id, row_number() over (partition by user_id order by created_at, id), id
from public.real_time_notifications;

create trigger jasaweb_rt_inserted after insert on public.real_time_notifications
  referencing new table as added for each statement execute function jasaweb_rt.notifications_inserted();
create trigger jasaweb_rt_updated after update on public.real_time_notifications
  referencing old table as before new table as after
  for each statement execute function jasaweb_rt.notifications_updated();
create trigger jasaweb_rt_deleted after delete on public.real_time_notifications
  referencing old table as removed for each statement execute function jasaweb_rt.notifications_deleted();
create trigger jasaweb_rt_truncated after truncate on public.real_time_notifications
  for each statement execute function jasaweb_rt.notifications_truncated();
