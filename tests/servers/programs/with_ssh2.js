// A server of the parts of npm's ssh2: PORT HOST_KEY AUTHORIZED_KEYS. Real paths are only tidied.
const fs = require('fs');
const path = require('path');
const { Server, utils: { sftp: { STATUS_CODE } } } = require('ssh2');

const [port, hostKey, authorized] = process.argv.slice(2);
const wanted = Buffer.from(fs.readFileSync(authorized, 'utf8').split(/\s+/)[1], 'base64');
const code = (error) => ({ ENOENT: STATUS_CODE.NO_SUCH_FILE, ENOTDIR: STATUS_CODE.NO_SUCH_FILE,
  EACCES: STATUS_CODE.PERMISSION_DENIED })[error.code] || STATUS_CODE.FAILURE;
const attributes = (s) => ({ mode: s.mode, uid: s.uid, gid: s.gid, size: s.size,
  atime: Math.floor(s.atimeMs / 1000), mtime: Math.floor(s.mtimeMs / 1000) });

new Server({ hostKeys: [fs.readFileSync(hostKey)] }, (client) => {
  client.on('error', () => {});
  client.on('authentication', (context) => {
    if (context.method !== 'publickey' || !context.key.data.equals(wanted)) return context.reject(['publickey']);
    return context.accept();
  });
  client.on('ready', () => client.on('session', (accept) => accept().on('sftp', (accept) => {
    const sftp = accept();
    const open = new Map();
    let count = 0;
    const handle = (id, what) => {
      const name = Buffer.alloc(4);
      name.writeUInt32BE(count++);
      open.set(name.toString('hex'), what);
      sftp.handle(id, name);
    };
    const answer = (id, work) => {
      try { work(); } catch (error) { sftp.status(id, code(error)); }
    };
    sftp.on('REALPATH', (id, p) => sftp.name(id, [{ filename: path.posix.resolve('/', p), longname: '', attrs: {} }]));
    sftp.on('STAT', (id, p) => answer(id, () => sftp.attrs(id, attributes(fs.statSync(p)))));
    sftp.on('LSTAT', (id, p) => answer(id, () => sftp.attrs(id, attributes(fs.lstatSync(p)))));
    sftp.on('READLINK', (id, p) => answer(id, () => sftp.name(id,
      [{ filename: fs.readlinkSync(p), longname: '', attrs: {} }])));
    sftp.on('OPEN', (id, p) => answer(id, () => handle(id, { fd: fs.openSync(p, 'r') })));
    sftp.on('OPENDIR', (id, p) => answer(id, () => handle(id, { dir: p, names: fs.readdirSync(p) })));
    sftp.on('READDIR', (id, h) => answer(id, () => {
      const it = open.get(h.toString('hex'));
      const names = it.names.splice(0, 100);
      if (!names.length) return sftp.status(id, STATUS_CODE.EOF);
      return sftp.name(id, names.map((name) => ({ filename: name, longname: name,
        attrs: attributes(fs.lstatSync(path.join(it.dir, name))) })));
    }));
    sftp.on('READ', (id, h, offset, length) => answer(id, () => {
      const data = Buffer.alloc(Math.min(length, 32768));
      const got = fs.readSync(open.get(h.toString('hex')).fd, data, 0, data.length, offset);
      return got ? sftp.data(id, data.subarray(0, got)) : sftp.status(id, STATUS_CODE.EOF);
    }));
    sftp.on('FSTAT', (id, h) => answer(id, () => sftp.attrs(id, attributes(fs.fstatSync(open.get(h.toString('hex')).fd)))));
    sftp.on('CLOSE', (id, h) => answer(id, () => {
      const it = open.get(h.toString('hex'));
      open.delete(h.toString('hex'));
      if (it && it.fd !== undefined) fs.closeSync(it.fd);
      sftp.status(id, STATUS_CODE.OK);
    }));
  })));
}).listen(Number(port), '127.0.0.1');
