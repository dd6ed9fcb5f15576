-- A notification alone, which is how nearly all of them come, has a way of its own through the trigger of migration 0005:
-- one statement without sorting, and nothing set for the planner. It takes half of the time.
--
-- Both ways are written so that search_path does not matter, for setting one costs more than what is done under it: all
-- names are in full, those of operators and types too. (Of a cast to int, of GROUP BY and of ORDER BY it is not asked.)
-- The first way joins nothing: where a program has nested loops off, a join would be taken for so dear that it is compiled.

create or replace function jasaweb_rt.notifications_inserted() returns trigger
language plpgsql security definer as $$
declare
  jit_was pg_catalog.text;
  nestloop_was pg_catalog.text;
begin
  if not exists (select from added offset 1) then
    with head as (
      insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
      select user_id, 1, (read_at is null)::int, 1 from added
      on conflict (user_id) do update
        set head_seq = c.head_seq operator(pg_catalog.+) 1,
            unread = c.unread operator(pg_catalog.+) excluded.unread,
            rev = c.rev operator(pg_catalog.+) 1
      returning user_id, head_seq
    ), numbered as (
      insert into jasaweb_rt.feed (user_id, seq, notification_id)
      select user_id, head_seq, (select id from added) from head
      returning user_id, seq
    )
    insert into jasaweb_rt.outbox (kind, user_id, seq)
    select 'notification', user_id, seq from numbered;
    if not found then
      return null;
    end if;
  else
    -- A pooled connection keeps the plan of its first call, of two rows perhaps; what that takes, see migration 0005.
    jit_was := pg_catalog.current_setting('jit');
    nestloop_was := pg_catalog.current_setting('enable_nestloop');
    perform pg_catalog.set_config('jit', 'off', true), pg_catalog.set_config('enable_nestloop', 'off', true);
    with arrived as (
      select id, user_id, read_at, pg_catalog.row_number() over () as n from added
    ), head as (
      insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
      select user_id, pg_catalog.count(*), pg_catalog.count(*) filter (where read_at is null), 1
      from arrived group by user_id order by user_id
      on conflict (user_id) do update
        set head_seq = c.head_seq operator(pg_catalog.+) excluded.head_seq,
            unread = c.unread operator(pg_catalog.+) excluded.unread,
            rev = c.rev operator(pg_catalog.+) 1
      returning user_id, head_seq
    ), numbered as (
      insert into jasaweb_rt.feed (user_id, seq, notification_id)
      select a.user_id,
             head.head_seq operator(pg_catalog.-) pg_catalog.count(*) over (partition by a.user_id)
               operator(pg_catalog.+) pg_catalog.row_number() over (partition by a.user_id order by a.n),
             a.id
      from arrived a join head on head.user_id operator(pg_catalog.=) a.user_id
      returning user_id, seq
    )
    insert into jasaweb_rt.outbox (kind, user_id, seq)
    select 'notification', user_id, seq from numbered order by user_id, seq;
    perform pg_catalog.set_config('jit', jit_was, true), pg_catalog.set_config('enable_nestloop', nestloop_was, true);
  end if;
  if not pg_catalog.pg_try_advisory_xact_lock_shared(7665534903213449729) then
    notify jasaweb_rt;
  end if;
  return null;
end $$;

-- PostgreSQL reads a check anew for each statement. Only the triggers write here.
-- squawk-ignore ban-drop-constraint
alter table jasaweb_rt.outbox drop constraint outbox_kind_check;
