package programs

import ("testing";"time";"fmt";"os";"strconv";"path/filepath";"syscall";"os/exec";"strings";"context"
"github.com/cloudburst-nats/cloudburst/broker/wire"
"github.com/cloudburst-nats/cloudburst/workers/runtime"
"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
"github.com/tetratelabs/wazero"
"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)
func cpu() time.Duration { var u syscall.Rusage; syscall.Getrusage(0,&u); return time.Duration(u.Utime.Nano()+u.Stime.Nano()) }
func TestTmp(t *testing.T){
 r,_:=wasm.New(wasm.Config{}); defer r.Close(); ctx:=context.Background()
 for _,p:=range All(){
  path:=filepath.Join(t.TempDir(),"x.wasm"); os.WriteFile(path,p.Wasm,0o600)
  f,err:=r.Load(t.Context(),runtime.Program{Function:p.Name,Path:path}); if err!=nil{t.Fatal(err)}
  w:=wazero.NewRuntime(ctx); wasi_snapshot_preview1.MustInstantiate(ctx,w); c,_:=w.CompileModule(ctx,p.Wasm)
  best:=[3]time.Duration{1<<60,1<<60,1<<60}; n:=strconv.Itoa(p.N)
  for range 6 {
   x:=exec.Command("build/"+p.Name); x.Stdin=strings.NewReader(n); x.Run(); best[0]=min(best[0],x.ProcessState.UserTime()+x.ProcessState.SystemTime())
   b:=cpu(); m,_:=w.InstantiateModule(ctx,c,wazero.NewModuleConfig().WithStdin(strings.NewReader(n))); best[1]=min(best[1],cpu()-b); if m!=nil {m.Close(ctx)}
   b=cpu(); if _,err:=f.Invoke(t.Context(),&runtime.Call{Function:p.Name,Args:wire.Value{Body:[]byte(n)}});err!=nil{t.Fatal(err)}; best[2]=min(best[2],cpu()-b)
  }
  w.Close(ctx)
  fmt.Printf("%-12s N=%-9d native %v  plain %v (%.2fx)  runtime %v (%.2fx)\n",p.Name,p.N,best[0].Round(time.Millisecond),best[1].Round(time.Millisecond),float64(best[1])/float64(best[0]),best[2].Round(time.Millisecond),float64(best[2])/float64(best[0]))
 }
}
