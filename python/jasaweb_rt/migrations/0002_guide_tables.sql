-- The guide's tables, named and typed as Prisma creates them, so that the site's own client reads and writes them.
-- Each statement leaves alone what `prisma db push` has made already; 0003 checks it.

do $$
begin
  if to_regtype('public."ConnectionStatus"') is null then
    create type public."ConnectionStatus" as enum ('active', 'disconnected', 'error', 'timeout');
  end if;
  if to_regtype('public."NotificationType"') is null then
    create type public."NotificationType" as enum
      ('project_update', 'payment_update', 'system_announcement', 'admin_alert', 'user_message');
  end if;
end $$;

create table if not exists public.websocket_connections (
  id text not null,
  user_id text not null,
  connection_id text not null,
  client_ip text,
  user_agent text,
  connected_at timestamp(3) not null default current_timestamp,
  last_activity timestamp(3) not null default current_timestamp,
  status public."ConnectionStatus" not null default 'active',
  constraint websocket_connections_pkey primary key (id)
);

create table if not exists public.websocket_messages (
  id text not null,
  connection_id text not null,
  message_type text not null,
  payload jsonb not null,
  sent_at timestamp(3) not null default current_timestamp,
  delivered boolean not null default false,
  constraint websocket_messages_pkey primary key (id)
);

create table if not exists public.real_time_notifications (
  id text not null,
  user_id text not null,
  type public."NotificationType" not null,
  title text not null,
  message text not null,
  data jsonb,
  read_at timestamp(3),
  created_at timestamp(3) not null default current_timestamp,
  constraint real_time_notifications_pkey primary key (id)
);
