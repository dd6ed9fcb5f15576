-- Which servers live. A connection's id begins with its node's, so when a lease runs out, whoever notices knows which
-- rows of public.websocket_connections nobody will close any more.

create table jasaweb_rt.nodes (
  node_id text not null,
  started_at timestamptz not null default now(),
  renewed_at timestamptz not null default now(),
  lapsed boolean not null default false,
  constraint nodes_pkey primary key (node_id)
);
comment on column jasaweb_rt.nodes.renewed_at is 'by this clock a lease runs out, and by no node''s own';
comment on column jasaweb_rt.nodes.lapsed is 'another node has found the lease run out and closes this node''s connections';
