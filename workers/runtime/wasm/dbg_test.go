package wasm
import ("testing";"time";"context";"net";"slices";"sync";"fmt";"github.com/cloudburst-nats/cloudburst/workers/runtime";"github.com/cloudburst-nats/cloudburst/broker/wire")

func neighbour(t testing.TB, f *function, n int) (p50,p99,p999,mx time.Duration) {
 l,err:=net.Listen("tcp","127.0.0.1:0"); if err!=nil {t.Fatal(err)}
 defer l.Close()
 go func(){ c,err:=l.Accept(); if err!=nil {return}; b:=make([]byte,16); call := &runtime.Call{Args: wire.Value{Body: []byte("5")}}
  for { if _,err:=c.Read(b);err!=nil {return}; if _,err:=f.Invoke(context.Background(),call);err!=nil{panic(err)}; c.Write(b) } }()
 c,_:=net.Dial("tcp",l.Addr().String()); defer c.Close()
 var all []time.Duration
 b:=make([]byte,16)
 for range n {
  t0:=time.Now()
  c.Write(b); c.Read(b)
  all=append(all,time.Since(t0))
  time.Sleep(500*time.Microsecond)
 }
 slices.Sort(all)
 return all[n/2],all[n*99/100],all[n*999/1000],all[n-1]
}
func TestDbg(t *testing.T){
 for _,busy:=range []int{1,2} {
 for _,w:=range []string{"handler","work"} {
 r:=newRuntime(t,Config{Busy:busy})
 f:=load(t,r,w)
 for range 2 {
 a,b,c,d:=neighbour(t,f,4000)
 t.Log(busy,w,"quiet",a,b,c,d)
 for _,k:=range []int{1,4} {
 loop:=load(t,r,"loop")
 ctx,cancel:=context.WithCancel(t.Context())
 var wg sync.WaitGroup
 for range k { wg.Go(func(){ for ctx.Err()==nil { c2,cn:=context.WithTimeout(ctx,time.Second); loop.Invoke(c2,&runtime.Call{}); cn() } }) }
 time.Sleep(50*time.Millisecond)
 a,b,c,d=neighbour(t,f,4000)
 t.Log(busy,w,fmt.Sprint("loops ",k),a,b,c,d)
 cancel(); wg.Wait(); loop.Close()
 }
 }
 }
 }
}
