/** The words of the page for administrators, in Indonesian. `admin-text-en.js` has the same keys. */

export const admin = {
  page: "Administrasi · JasaWeb",
  title: "Administrasi",
  dashboard: "Dasbor",
  sections: "Di halaman ini",
  cancel: "Batal",

  figures: "Saat ini",
  figuresFailed: "Angka terkini tidak dapat dibaca.",
  figure: {
    connections: "Sambungan",
    users: "Orang daring",
    deliveries: "Pengiriman per detik",
    framesReceived: "Pesan dari halaman per detik",
    bytesWritten: "Data terkirim per detik",
    slowConsumers: "Diputus karena lambat",
  },
  health: {
    ready: "Pemberitahuan terkirim",
    waiting: "Pemberitahuan menunggu basis data",
    draining: "Server sedang berhenti",
  },

  markPaid: "Tandai lunas",
  /** @param {string} project @param {string} amount */
  markPaidOf: (project, amount) => `Tandai lunas: ${amount} untuk “${project}”`,
  markPaidTitle: "Tandai tagihan ini sebagai lunas?",
  /** @param {string} project @param {string} amount */
  markPaidMessage: (project, amount) =>
    `${amount} untuk “${project}”. Klien akan diberi tahu, dan proyek yang menunggu pembayaran dilanjutkan. Tindakan ini tidak dapat dibatalkan di sini.`,

  messages: "Pesan",
  noMessages: "Belum ada pesan. Pesan dari klien langsung muncul di sini.",
  messagesFailed: "Pesan Anda tidak dapat dimuat.",
  /** @param {string} name */
  from: (name) => `Dari ${name}`,
  reply: "Balas",
  /** @param {string} name @param {string} subject */
  replyTo: (name, subject) => `Balas ${name} tentang “${subject}”`,
  /** @param {string} subject */
  re: (subject) => `Bls: ${subject}`,
  newMessage: "Pesan baru",
  findPerson: "Cari orang",
  recipient: "Kepada",
  choosePerson: "Pilih orang",
  nobody: "Tidak ada orang dengan nama itu.",
  /** @param {number} shown @param {number} total */
  firstOf: (shown, total) => `${shown} orang pertama dari ${total}.`,
  peopleFailed: "Daftar orang tidak dapat dimuat.",
  subject: "Perihal",
  message: "Pesan",
  send: "Kirim",
  /** @param {string} name */
  sent: (name) => `Terkirim kepada ${name}.`,

  announcement: "Pengumuman baru",
  heading: "Judul",
  audience: "Untuk",
  audiences: { all: "Semua orang", clients: "Klien", admins: "Admin" },
  priority: "Prioritas",
  priorities: { low: "Rendah", medium: "Biasa", high: "Tinggi", critical: "Kritis" },
  delivery: "Penerima",
  durable: "Juga yang sedang tidak terhubung: mereka membacanya nanti",
  liveOnly: "Hanya yang sedang terhubung sekarang",
  announce: "Umumkan",
  /** @param {number} count */
  stored: (count) => `Diumumkan kepada ${count} orang.`,
  /** @param {number} count */
  broadcast: (count) => `Dikirim melalui ${count} sambungan.`,

  connections: "Yang sedang terhubung",
  connectionsFailed: "Daftar sambungan tidak dapat dibaca.",
  noConnections: "Tidak ada sambungan yang cocok.",
  filter: "Saring",
  searchConnections: "Nama, ID, atau alamat",
  role: "Peran",
  roles: { "": "Semua", admin: "Admin", client: "Klien" },
  columns: {
    name: "Nama",
    role: "Peran",
    address: "Alamat",
    device: "Perangkat",
    since: "Sejak",
    activity: "Aktivitas terakhir",
    action: "Tindakan",
  },
  unknownDevice: "Tidak dikenal",
  /** @param {string} browser @param {string} system */
  device: (browser, system) => `${browser} di ${system}`,
  disconnect: "Putuskan",
  /** @param {string} name @param {string} address */
  disconnectOf: (name, address) => `Putuskan ${name} di ${address}`,
  disconnectTitle: "Putuskan halaman ini?",
  /** @param {string} name @param {string} address */
  disconnectMessage: (name, address) =>
    `${name} di ${address} tidak menerima kabar langsung di sana sampai halaman dibuka lagi.`,
  /** @param {string} name */
  disconnected: (name) => `Sambungan ${name} diputus.`,
  pages: "Halaman daftar sambungan",
  previous: "Sebelumnya",
  next: "Berikutnya",
  /** @param {number} first @param {number} last @param {number} total */
  range: (first, last, total) => `${first}–${last} dari ${total}`,
};
