-- Ours, in a schema of their own and without foreign keys across, so that `prisma db push` does not see them.

create schema if not exists jasaweb_rt;

-- One row a user. Its lock is what makes commit order and seq order one. Updated at each notification, hence the room
-- left in each page: no index holds a changing column, so an update stays in its page.
create table jasaweb_rt.counters (
  user_id text not null,
  head_seq bigint not null,
  unread bigint not null,
  rev bigint not null,
  constraint counters_pkey primary key (user_id)
) with (fillfactor = 70);
comment on column jasaweb_rt.counters.head_seq is 'seq of the newest notification that the user ever had; never falls';
comment on column jasaweb_rt.counters.rev is 'version of this row: the greater of two is the newer';

-- The order of each user's notifications. A deleted notification leaves its seq unused.
create table jasaweb_rt.feed (
  user_id text not null,
  seq bigint not null,
  notification_id text not null,
  constraint feed_pkey primary key (user_id, seq)
);
-- Not unique on purpose: rows loaded behind the triggers' back must not make a foreign program's INSERT fail.
create index feed_notification_id_idx on jasaweb_rt.feed (notification_id);

-- What committed and was not relayed yet. Rows live for milliseconds, so dead ones gather fast and are cleared by
-- number, not by share.
create table jasaweb_rt.outbox (
  id bigint generated always as identity,
  kind text not null,
  user_id text not null,
  seq bigint,
  detail jsonb,
  constraint outbox_pkey primary key (id),
  constraint outbox_kind_check check (
    (kind = 'notification' and seq is not null and detail is null)
    or (kind = 'read' and seq is null and detail is not null)
  )
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.5);
comment on column jasaweb_rt.outbox.detail is 'of a row of kind read: {"ids": [...]} or {"upTo": seq}';

-- Names this database's numbering: positions that a client remembers from another one are worth nothing here.
create table jasaweb_rt.epoch (
  only_row boolean not null default true,
  epoch text not null,
  constraint epoch_pkey primary key (only_row),
  constraint epoch_only_row_check check (only_row)
);
insert into jasaweb_rt.epoch (epoch) values (gen_random_uuid()::text);

revoke all on schema jasaweb_rt from public;
