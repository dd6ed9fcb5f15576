-- What an open socket must hear at once: its user has another role or is gone, or its session was ended before its time.
--
-- A NOTIFY names the user, and is no more than a hint: who hears it reads here and in public.users how things stand. It
-- takes a lock that all commits share, which is nothing for what is as rare as this.

-- Sessions that a log-out has ended. A session JWT cannot be called back, so this is asked whenever one is shown, until
-- it would have ended by itself.
create table jasaweb_rt.ended_sessions (
  user_id text not null,
  session_id text not null,
  ends_at timestamptz not null,
  constraint ended_sessions_pkey primary key (user_id, session_id)
);
create index ended_sessions_ends_at_idx on jasaweb_rt.ended_sessions (ends_at);
comment on column jasaweb_rt.ended_sessions.session_id is 'made of the signature of the JWT, which cannot be found from it';
comment on column jasaweb_rt.ended_sessions.ends_at is 'when the JWT ends by itself, and the row has done its work';

-- As those of migration 0005, the functions run as their owner and name everything in full. A payload has less than
-- 8000 bytes; without one, everybody is looked at.
create function jasaweb_rt.user_changed() returns trigger
language plpgsql security definer as $$
declare
  was pg_catalog.jsonb := pg_catalog.to_jsonb(old);
  will_be pg_catalog.jsonb;
begin
  if tg_op operator(pg_catalog.=) 'UPDATE' then
    will_be := pg_catalog.to_jsonb(new);
    if was operator(pg_catalog.->) 'id' operator(pg_catalog.=) (will_be operator(pg_catalog.->) 'id')
      and was operator(pg_catalog.->) 'role' operator(pg_catalog.=) (will_be operator(pg_catalog.->) 'role')
    then
      return null;
    end if;
  end if;
  perform pg_catalog.pg_notify(
    'jasaweb_rt_users',
    case when pg_catalog.octet_length(was operator(pg_catalog.->>) 'id') operator(pg_catalog.<) 4000
      then was operator(pg_catalog.->>) 'id' else '' end
  );
  return null;
end $$;

create function jasaweb_rt.users_truncated() returns trigger
language plpgsql security definer as $$
begin
  perform pg_catalog.pg_notify('jasaweb_rt_users', '');
  return null;
end $$;

revoke all on function jasaweb_rt.user_changed(), jasaweb_rt.users_truncated() from public;

-- The site changes its users often, and roles hardly ever. That is told apart in the function, by the whole row: where a
-- trigger's condition names a column, nobody may change its type, as Prisma does when a role is renamed; and a session
-- that has compared the column itself would fail from then on.
create trigger jasaweb_rt_changed after update on public.users
  for each row execute function jasaweb_rt.user_changed();
create trigger jasaweb_rt_deleted after delete on public.users
  for each row execute function jasaweb_rt.user_changed();
create trigger jasaweb_rt_truncated after truncate on public.users
  for each statement execute function jasaweb_rt.users_truncated();
